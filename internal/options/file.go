package options

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"

	yamlnode "go.yaml.in/yaml/v3"
	"sigs.k8s.io/yaml"
)

// maxFileBytes bounds a configuration file.
const maxFileBytes = 4 << 20

// document is a configuration struct with where its keys were set.
type document struct {
	into     any
	defaults map[string]string
	origins  map[string]Origin
}

// Document registers a configuration struct with its defaults already in it,
// so that its keys are listed even where no file is given. LoadFile and
// LoadDropIns read into the same pointer.
func (s *Set) Document(into any) error {
	_, err := s.document(into)
	return err
}

func (s *Set) document(into any) (*document, error) {
	for _, d := range s.docs {
		if d.into == into {
			return d, nil
		}
	}
	defaults, err := flatten(into)
	if err != nil {
		return nil, err
	}
	d := &document{into: into, defaults: defaults, origins: map[string]Origin{}}
	s.docs = append(s.docs, d)
	return d, nil
}

// LoadFile reads a component configuration file, YAML or JSON, over the
// defaults in into. Unknown and duplicate keys are errors.
func (s *Set) LoadFile(path string, into any) error {
	d, err := s.document(into)
	if err != nil {
		return err
	}
	return d.load(path, File)
}

// LoadDropIns reads the *.conf files of a folder in the order of their names,
// each over what stands, as the kubelet's --config-dir does.
func (s *Set) LoadDropIns(dir string, into any) error {
	d, err := s.document(into)
	if err != nil {
		return err
	}
	paths, err := filepath.Glob(filepath.Join(dir, "*.conf"))
	if err != nil {
		return fmt.Errorf("list drop-ins in %s: %w", dir, err)
	}
	sort.Strings(paths)
	for _, p := range paths {
		if err := d.load(p, DropIn); err != nil {
			return err
		}
	}
	return nil
}

func (d *document) load(path string, kind Kind) error {
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("read configuration: %w", err)
	}
	if info.Size() > maxFileBytes {
		return fmt.Errorf("read configuration %s: %d bytes is more than the %d allowed", path, info.Size(), maxFileBytes)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read configuration: %w", err)
	}
	if err := yaml.UnmarshalStrict(data, d.into, yaml.DisallowUnknownFields); err != nil {
		return fmt.Errorf("read configuration %s: %s", path, oneLine(err))
	}
	var root yamlnode.Node
	if err := yamlnode.Unmarshal(data, &root); err != nil {
		return fmt.Errorf("read configuration %s: %s", path, oneLine(err))
	}
	lines := map[string]int{}
	nodeLines(&root, "", lines)
	for p, line := range lines {
		d.origins[p] = Origin{Kind: kind, Source: path, Line: line}
	}
	return nil
}

func oneLine(err error) string {
	return strings.Join(strings.Fields(strings.ReplaceAll(err.Error(), "\n", " ")), " ")
}

// nodeLines maps the path of each leaf to its line.
func nodeLines(n *yamlnode.Node, path string, out map[string]int) {
	switch n.Kind {
	case yamlnode.DocumentNode:
		for _, c := range n.Content {
			nodeLines(c, path, out)
		}
	case yamlnode.MappingNode:
		if len(n.Content) == 0 {
			out[path] = n.Line
		}
		for i := 0; i+1 < len(n.Content); i += 2 {
			nodeLines(n.Content[i+1], join(path, n.Content[i].Value), out)
		}
	case yamlnode.SequenceNode:
		if len(n.Content) == 0 {
			out[path] = n.Line
		}
		for i, c := range n.Content {
			nodeLines(c, path+"["+strconv.Itoa(i)+"]", out)
		}
	default:
		out[path] = n.Line
	}
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func (d *document) list(s *Set) []Option {
	values, err := flatten(d.into)
	if err != nil {
		return nil
	}
	out := make([]Option, 0, len(values))
	for path, value := range values {
		o := Option{Name: path, Value: value, Default: d.defaults[path], Origin: d.origins[path]}
		if flag := s.flagOf(path); flag != "" && s.fs.Changed(flag) {
			o.Origin = Origin{Kind: Flag}
		}
		out = append(out, o)
	}
	return out
}

// flatten renders a configuration struct as its leaves by path.
func flatten(v any) (map[string]string, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("list configuration of type %T: %w", v, err)
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	var tree any
	if err := dec.Decode(&tree); err != nil {
		return nil, fmt.Errorf("list configuration of type %T: %w", v, err)
	}
	out := map[string]string{}
	flattenTree(tree, "", out)
	return out, nil
}

func flattenTree(v any, path string, out map[string]string) {
	switch t := v.(type) {
	case map[string]any:
		for k, c := range t {
			flattenTree(c, join(path, k), out)
		}
	case []any:
		for i, c := range t {
			flattenTree(c, path+"["+strconv.Itoa(i)+"]", out)
		}
	case nil:
		out[path] = ""
	default:
		out[path] = fmt.Sprint(t)
	}
}
