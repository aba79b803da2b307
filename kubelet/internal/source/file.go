package source

import (
	"context"
	"crypto/md5" //nolint:gosec // names a static pod, protects nothing
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

	"flagship/kubelet/internal/podspec"
)

// maxManifest bounds a manifest, in bytes.
const maxManifest = 10 << 20

// FileConfig says where manifests are.
type FileConfig struct {
	Path   string // a folder, or one file
	Node   string
	Period time.Duration // between full reads
}

// File reads static pods.
type File struct {
	cfg FileConfig
	log *zap.Logger
	mux *Mux
}

// NewFile returns the file source.
func NewFile(cfg FileConfig, log *zap.Logger, mux *Mux) *File {
	return &File{cfg: cfg, log: log, mux: mux}
}

// Run reads the manifests now, whenever one changes, and once per period, until ctx ends.
func (f *File) Run(ctx context.Context) error {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		f.log.Warn("watch static pods: only periodic reads", zap.Error(err))
	} else {
		defer watcher.Close()
	}
	tick := time.NewTicker(f.cfg.Period)
	defer tick.Stop()
	watched := false
	for {
		f.mux.Replace(ctx, podspec.SourceFile, f.read())
		if watcher != nil && !watched {
			watched = watcher.Add(f.cfg.Path) == nil
		}
		if !f.wait(ctx, watcher, tick.C, &watched) {
			return nil
		}
	}
}

// wait returns false when ctx ended, true when it is time to read again.
func (f *File) wait(ctx context.Context, w *fsnotify.Watcher, tick <-chan time.Time, watched *bool) bool {
	var events chan fsnotify.Event
	if w != nil {
		events = w.Events
	}
	for {
		select {
		case <-ctx.Done():
			return false
		case <-tick:
			return true
		case e := <-events:
			if e.Name == f.cfg.Path && e.Has(fsnotify.Remove|fsnotify.Rename) {
				*watched = false
			}
			if strings.HasPrefix(filepath.Base(e.Name), ".") || !e.Has(fsnotify.Create|fsnotify.Write|fsnotify.Remove|fsnotify.Rename) {
				continue
			}
			// Editors write in several steps; a short quiet time keeps a half-written manifest from being read.
			quiet := time.NewTimer(100 * time.Millisecond)
			for done := false; !done; {
				select {
				case <-events:
				case <-quiet.C:
					done = true
				case <-ctx.Done():
					quiet.Stop()
					return false
				}
			}
			return true
		}
	}
}

// read returns the pods of every manifest that is right, and logs those that are not.
func (f *File) read() []*corev1.Pod {
	paths, err := f.paths()
	if err != nil {
		f.log.Warn("read static pods", zap.String("path", f.cfg.Path), zap.Error(err))
		return nil
	}
	var out []*corev1.Pod
	names := map[string]string{}
	for _, p := range paths {
		pod, err := readManifest(p, f.cfg.Node)
		if err != nil {
			f.log.Error("skip static pod manifest", zap.String("file", p), zap.Error(err))
			continue
		}
		if first, ok := names[podspec.FullName(pod)]; ok {
			f.log.Error("skip static pod manifest: another file declares the same pod", zap.String("file", p), zap.String("other", first))
			continue
		}
		names[podspec.FullName(pod)] = p
		out = append(out, pod)
	}
	return out
}

func (f *File) paths() ([]string, error) {
	info, err := os.Stat(f.cfg.Path)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return []string{f.cfg.Path}, nil
	}
	entries, err := os.ReadDir(f.cfg.Path)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, e := range entries {
		full := filepath.Join(f.cfg.Path, e.Name())
		if info, err := os.Stat(full); err != nil || info.IsDir() || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		out = append(out, full)
	}
	sort.Strings(out)
	return out, nil
}

func readManifest(path, node string) (*corev1.Pod, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxManifest {
		return nil, fmt.Errorf("%d bytes is more than the %d allowed", info.Size(), maxManifest)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return Decode(data, node, podspec.SourceFile, path)
}

// Decode reads one static pod and gives it the identity that upstream gives it: a name that ends in the node's, a UID
// from its contents and origin.
func Decode(data []byte, node, source, origin string) (*corev1.Pod, error) {
	pod := &corev1.Pod{}
	raw, err := yaml.YAMLToJSON(data)
	if err != nil {
		return nil, fmt.Errorf("decode: %w", err)
	}
	if err := json.Unmarshal(raw, pod); err != nil {
		return nil, fmt.Errorf("decode: %w", err)
	}
	if pod.Kind != "Pod" || pod.APIVersion != "v1" {
		return nil, fmt.Errorf("decode: apiVersion %q, kind %q: only v1 Pod is accepted", pod.APIVersion, pod.Kind)
	}
	adopt(pod, node, source, origin)
	podspec.Default(pod)
	if err := podspec.ValidateStatic(pod); err != nil {
		return nil, fmt.Errorf("invalid pod: %w", err)
	}
	return pod, nil
}

func adopt(pod *corev1.Pod, node, source, origin string) {
	node = strings.ToLower(node)
	if pod.UID == "" {
		raw, err := json.Marshal(pod)
		if err != nil {
			panic(err) // it was decoded from JSON
		}
		h := md5.New() //nolint:gosec // see the import
		h.Write(raw)
		fmt.Fprintf(h, "host:%s%s:%s", node, source, origin)
		pod.UID = types.UID(hex.EncodeToString(h.Sum(nil)))
	}
	pod.Name = pod.Name + "-" + node
	if pod.Namespace == "" {
		pod.Namespace = "default"
	}
	if pod.Annotations == nil {
		pod.Annotations = map[string]string{}
	}
	pod.Annotations[podspec.ConfigHashAnnotation] = string(pod.UID)
	pod.Annotations[podspec.ConfigSourceAnnotation] = source
	pod.Spec.NodeName = node
	pod.Status = corev1.PodStatus{Phase: corev1.PodPending}
	pod.Generation = 1
	for _, t := range pod.Spec.Tolerations {
		if t.Key == "" && t.Operator == corev1.TolerationOpExists && t.Effect == corev1.TaintEffectNoExecute {
			return
		}
	}
	pod.Spec.Tolerations = append(pod.Spec.Tolerations, corev1.Toleration{Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute})
}
