package main

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/signal"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"time"

	"flagship/hack/compare/lab"
)

type object = map[string]any

// definitions are custom resources whose documents are compared too.
//
//go:embed definitions.json
var definitions []byte

// explained are the ends of paths at which a difference is meant.
var explained = map[string]string{
	"v1.DeleteOptions x-kubernetes-group-version-kind": "upstream's names versions that it does not serve",
	"v1.WatchEvent x-kubernetes-group-version-kind":    "upstream's names versions that it does not serve",
}

func main() {
	upstream := flag.String("upstream", "bin/upstream", "folder of upstream's kube-apiserver and etcd")
	ours := flag.String("ours", "bin", "folder of our kube-apiserver")
	facts := flag.String("facts", "", "file of facts to bring up to date; begin with {} to make it anew")
	most := flag.Int("most", 40, "differences to print")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	n, err := run(ctx, *upstream, *ours, *facts, *most)
	if err != nil {
		fmt.Fprintln(os.Stderr, "openapi:", err)
		stop()
		os.Exit(1)
	}
	if n > 0 {
		stop()
		os.Exit(2)
	}
}

// run compares, and returns how many differences there are.
func run(ctx context.Context, upstream, ours, facts string, most int) (int, error) {
	l, err := lab.New(upstream, ours)
	if err != nil {
		return 0, err
	}
	defer l.Close()
	var docs [2]map[string]object
	for i, side := range []struct{ name, bin string }{{"upstream", l.Upstream}, {"ours", l.Ours}} {
		if docs[i], err = published(ctx, l, side.name, side.bin); err != nil {
			return 0, fmt.Errorf("%s: %w", side.name, err)
		}
	}
	if facts != "" {
		if err := learn(facts, docs[0], docs[1]); err != nil {
			return 0, err
		}
	}
	d := &differences{most: most}
	for _, name := range keys(docs[0], docs[1]) {
		before := d.n
		d.walk(name, docs[0][name], docs[1][name])
		if d.n > before {
			fmt.Printf("%s: %d differences\n", name, d.n-before)
		}
	}
	fmt.Printf("%d documents of upstream, %d of ours, %d differences\n", len(docs[0]), len(docs[1]), d.n)
	return d.n, nil
}

// published are the documents of one server by their paths.
func published(ctx context.Context, l *lab.Lab, name, bin string) (map[string]object, error) {
	_, store, err := l.Store(ctx, name)
	if err != nil {
		return nil, err
	}
	s, err := l.Serve(ctx, name, bin, "--etcd-servers="+store)
	if err != nil {
		return nil, err
	}
	defer s.Proc.Stop()
	var crds []json.RawMessage
	if err := json.Unmarshal(definitions, &crds); err != nil {
		return nil, err
	}
	for _, crd := range crds {
		if _, err := call(ctx, s, http.MethodPost, "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", crd); err != nil {
			return nil, err
		}
	}
	var paths object
	for want := []string{"apis/net.example.com/v1", "apis/net.example.com/v1beta1", "apis/other-things.example.com/v2alpha1"}; !containsAll(paths, want); {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(500 * time.Millisecond):
		}
		index, err := call(ctx, s, http.MethodGet, "/openapi/v3", nil)
		if err != nil {
			return nil, err
		}
		paths, _ = index["paths"].(object)
	}
	out := map[string]object{}
	// Upstream's v2 follows a moment later.
	for !containsAll(out["/openapi/v2"], []string{"definitions"}) || !containsAll(out["/openapi/v2"]["definitions"].(object), []string{"com.example.net.v1.Tunnel", "com.example.other-things.v2alpha1.Oasis"}) {
		if out["/openapi/v2"], err = call(ctx, s, http.MethodGet, "/openapi/v2", nil); err != nil {
			return nil, err
		}
	}
	for p := range paths {
		if out["/openapi/v3/"+p], err = call(ctx, s, http.MethodGet, "/openapi/v3/"+p, nil); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func containsAll(m object, want []string) bool {
	return !slices.ContainsFunc(want, func(k string) bool { _, ok := m[k]; return !ok })
}

// call is one request and its answer.
func call(ctx context.Context, s *lab.Server, method, path string, body []byte) (object, error) {
	req, err := http.NewRequestWithContext(ctx, method, s.Base+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+lab.AdminToken)
	req.Header.Set("Content-Type", "application/json")
	resp, err := s.HTTP.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	doc := object{}
	if err := json.Unmarshal(data, &doc); err != nil || resp.StatusCode/100 != 2 {
		return nil, fmt.Errorf("%s: %s: %.300s", path, resp.Status, data)
	}
	return doc, nil
}

func keys[V any](maps ...map[string]V) []string {
	var out []string
	for _, m := range maps {
		for k := range m {
			if !slices.Contains(out, k) {
				out = append(out, k)
			}
		}
	}
	slices.Sort(out)
	return out
}

// differences are counted, and the first printed.
type differences struct{ n, most int }

func (d *differences) tell(path string, theirs, ours any) {
	for end := range explained {
		if strings.HasSuffix(path, end) {
			return
		}
	}
	if d.n++; d.n <= d.most {
		fmt.Printf("%s\n  upstream: %.300s\n  ours:     %.300s\n", path, text(theirs), text(ours))
	}
}

func text(v any) string {
	if v == nil {
		return "(none)"
	}
	data, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(data)
}

func (d *differences) walk(path string, theirs, ours any) {
	a, aIs := theirs.(object)
	b, bIs := ours.(object)
	if !aIs || !bIs {
		if !reflect.DeepEqual(sorted(theirs), sorted(ours)) {
			d.tell(path, theirs, ours)
		}
		return
	}
	for _, k := range keys(a, b) {
		x, inA := a[k]
		y, inB := b[k]
		if inA != inB {
			d.tell(path+" "+k, x, y)
		} else {
			d.walk(path+" "+k, x, y)
		}
	}
}

// sorted is a list without regard to order: parameters, required fields and media types have none.
func sorted(v any) any {
	list, ok := v.([]any)
	if !ok {
		return v
	}
	list = slices.Clone(list)
	slices.SortFunc(list, func(a, b any) int { return strings.Compare(text(a), text(b)) })
	return list
}

// learn adds to the file of facts what the models of v3 lack.
func learn(file string, theirs, ours map[string]object) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	facts := object{}
	if err := json.Unmarshal(data, &facts); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	known := models(ours)
	for name, m := range models(theirs) {
		mine, ok := known[name].(object)
		if !ok {
			continue
		}
		p := patch(beside(mine), beside(m.(object)))
		delete(p, "x-kubernetes-group-version-kind") // follows from the version
		if len(p) > 0 {
			old, _ := facts[name].(object)
			facts[name] = compose(old, p)
		}
	}
	out, err := json.MarshalIndent(facts, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(out, '\n'), 0o644)
}

// models are those of all documents of v3.
func models(docs map[string]object) object {
	out := object{}
	for name, doc := range docs {
		if !strings.HasPrefix(name, "/openapi/v3/") {
			continue
		}
		components, _ := doc["components"].(object)
		schemas, _ := components["schemas"].(object)
		for k, v := range schemas {
			out[k] = v
		}
	}
	return out
}

// beside is a model whose properties have their references beside what else is said of them.
func beside(model object) object {
	model = maps.Clone(model)
	properties, _ := model["properties"].(object)
	if properties = maps.Clone(properties); properties != nil {
		model["properties"] = properties
	}
	for name, p := range properties {
		p := maps.Clone(p.(object))
		if all, ok := p["allOf"].([]any); ok && len(all) == 1 {
			delete(p, "allOf")
			maps.Copy(p, all[0].(object))
		}
		properties[name] = p
	}
	return model
}

// patch is the merge patch (RFC 7386) that makes one object another. Of a description that goes on it has what is added.
func patch(from, to object) object {
	out := object{}
	for k, v := range to {
		old, had := from[k]
		a, aIs := old.(object)
		b, bIs := v.(object)
		switch {
		case had && aIs && bIs:
			if p := patch(a, b); len(p) > 0 {
				out[k] = p
			}
		case had && k == "description" && strings.HasPrefix(fmt.Sprint(v), fmt.Sprint(old)+"\n"):
			out[k] = strings.TrimPrefix(fmt.Sprint(v), fmt.Sprint(old))
		case !had || !reflect.DeepEqual(old, v):
			out[k] = v
		}
	}
	for k := range from {
		if _, ok := to[k]; !ok {
			out[k] = nil
		}
	}
	return out
}

// compose is one patch that does what two do, one after the other.
func compose(first, second object) object {
	if first == nil {
		first = object{}
	}
	for k, v := range second {
		a, aIs := first[k].(object)
		b, bIs := v.(object)
		if aIs && bIs {
			first[k] = compose(a, b)
		} else {
			first[k] = v
		}
	}
	return first
}
