package static

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"
	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/validation/field"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"

	"flagship/apiserver/internal/resource"
)

// Suffix ends the names of objects that are in files. No object of the API has such a name.
const Suffix = ".static.k8s.io"

// reloadInterval is how often a folder is read where the system does not tell of its changes.
const reloadInterval = time.Minute

// settle is how long a folder has to be quiet before it is read.
const settle = 100 * time.Millisecond

// Dir is the folder of one plugin.
type Dir struct {
	plugin, path string
	kinds        []*resource.Kind
	decoder      runtime.Decoder
	metrics      *Metrics
	log          *zap.Logger

	mu      sync.RWMutex // guards what follows
	objects map[schema.GroupVersionResource][]runtime.Object
	// reads counts what was taken over, and hash is of the last files that were read.
	reads int64
	hash  string
}

// object is one of a file.
type object interface {
	runtime.Object
	metav1.Object
}

// Open reads a folder, in which there may be objects of some kinds, for the plugin named.
//
// Errors: the folder or a file cannot be read, or an object is not one that the API would take, or may not be in a file.
func Open(plugin, path string, kinds []*resource.Kind, scheme *runtime.Scheme, m *Metrics, log *zap.Logger) (*Dir, error) {
	d := &Dir{
		plugin: plugin, path: path, kinds: kinds, metrics: m, log: log,
		decoder: serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer(),
	}
	if _, err := d.read(); err != nil {
		return nil, err
	}
	return d, nil
}

// Objects are those of a resource, in the order of their names. They must not be changed.
func (d *Dir) Objects(gvr schema.GroupVersionResource) []runtime.Object {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.objects[gvr]
}

// Reads grows when other objects have been taken over.
func (d *Dir) Reads() int64 {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.reads
}

// Run follows the folder until ctx ends. What is wrong leaves all as it is.
func (d *Dir) Run(ctx context.Context) error {
	tick := time.NewTicker(reloadInterval)
	defer tick.Stop()
	var events <-chan fsnotify.Event
	if w, err := fsnotify.NewWatcher(); err == nil {
		defer func() { _ = w.Close() }()
		if err = w.Add(d.path); err == nil {
			events = w.Events
		}
	}
	d.reload() // what changed before it was watched
	var quiet <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-events:
			quiet = time.After(settle)
		case <-quiet:
			quiet = nil
			d.reload()
		case <-tick.C:
			d.reload()
		}
	}
}

func (d *Dir) reload() {
	changed, err := d.read()
	switch {
	case err != nil:
		d.log.Error("the files of an admission plugin cannot be used: the last ones still are", zap.String("plugin", d.plugin), zap.Error(err))
	case changed:
		d.log.Info("the files of an admission plugin are loaded", zap.String("plugin", d.plugin), zap.String("dir", d.path))
	}
}

// read takes over what is in the folder, and says whether that was not known.
func (d *Dir) read() (changed bool, err error) {
	defer func() {
		if err != nil || changed {
			d.metrics.read(d.plugin, d.hash, err)
		}
	}()
	files, hash, err := readFiles(d.path)
	if err != nil {
		return false, err
	}
	d.mu.RLock()
	known := d.reads > 0 && hash == d.hash
	d.mu.RUnlock()
	if known {
		return false, nil
	}
	objects, err := d.parse(files)
	if err != nil {
		return false, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.objects, d.hash = objects, hash
	d.reads++
	return true, nil
}

// document is a part of a file.
type document struct {
	file string
	data []byte
}

// readFiles reads the .yaml, .yml and .json files of a folder, in the order of their names.
func readFiles(dir string) (out []document, hash string, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, "", fmt.Errorf("failed to read manifest directory %q: %w", dir, err)
	}
	sum := sha256.New()
	for _, e := range entries {
		if e.IsDir() || !slices.Contains([]string{".yaml", ".yml", ".json"}, strings.ToLower(filepath.Ext(e.Name()))) {
			continue
		}
		file := filepath.Join(dir, e.Name())
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, "", fmt.Errorf("failed to read file %q: %w", file, err)
		}
		_, _ = sum.Write(append(data, 0))
		reader := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(data)))
		for {
			part, err := reader.Read()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return nil, "", fmt.Errorf("failed to split YAML documents in file %q: %w", file, err)
			}
			if part = bytes.TrimSpace(part); len(part) > 0 {
				out = append(out, document{file, part})
			}
		}
	}
	if len(out) > 0 {
		hash = fmt.Sprintf("sha256:%x", sum.Sum(nil))
	}
	return out, hash, nil
}

// parse makes objects of documents, each of which may be a List.
func (d *Dir) parse(documents []document) (map[schema.GroupVersionResource][]runtime.Object, error) {
	out := map[schema.GroupVersionResource][]runtime.Object{}
	files := map[string]string{}
	for _, doc := range documents {
		if err := d.take(doc.file, doc.data, files, out); err != nil {
			return nil, fmt.Errorf("error loading %s: %w", doc.file, err)
		}
	}
	for _, list := range out {
		slices.SortFunc(list, func(a, b runtime.Object) int { return strings.Compare(a.(object).GetName(), b.(object).GetName()) })
	}
	return out, checkBindings(out)
}

func (d *Dir) take(file string, data []byte, files map[string]string, out map[schema.GroupVersionResource][]runtime.Object) error {
	decoded, gvk, err := d.decoder.Decode(data, nil, nil)
	if err != nil {
		return err
	}
	if list, ok := decoded.(*corev1.List); ok {
		for _, item := range list.Items {
			if err := d.take(file, item.Raw, files, out); err != nil {
				return err
			}
		}
		return nil
	}
	i := slices.IndexFunc(d.kinds, func(k *resource.Kind) bool { return k.GroupVersionKind == *gvk })
	if i < 0 {
		return fmt.Errorf("unsupported resource type %T", decoded)
	}
	k, obj := d.kinds[i], decoded.(object)
	switch name := obj.GetName(); {
	case name == "":
		return fmt.Errorf("resource in file %q must have a name", file)
	case !strings.HasSuffix(name, Suffix):
		return fmt.Errorf("%q in file %q must have a name ending with %q", name, file, Suffix)
	case files[k.Resource+"/"+name] != "":
		return fmt.Errorf("duplicate name %q found in file %q (previously seen in %q)", name, file, files[k.Resource+"/"+name])
	}
	files[k.Resource+"/"+obj.GetName()] = file
	// An object without a UID is one of a file, see webhook and policy.
	obj.SetUID("")
	if k.Strategy.Default != nil {
		k.Strategy.Default(obj)
	}
	errs := apivalidation.ValidateObjectMetaAccessor(obj, false, apivalidation.NameIsDNSSubdomain, field.NewPath("metadata"))
	if k.Strategy.Validate != nil {
		errs = append(errs, k.Strategy.Validate(obj)...)
	}
	if err := errs.ToAggregate(); err != nil {
		return fmt.Errorf("invalid %s %q: %w", k.Kind, obj.GetName(), err)
	}
	if err := allowed(obj, file); err != nil {
		return err
	}
	out[k.GVR()] = append(out[k.GVR()], obj)
	return nil
}
