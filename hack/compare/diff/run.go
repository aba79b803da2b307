package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"
)

// tally counts the comparisons of one kind and verb.
type tally struct{ compared, equal, explained int }

// difference is one pair of answers that differ.
type difference struct {
	id, verb, name, diff string
	// why is set where the difference is meant to be.
	why string
}

// explanation says why a difference is right, by texts that it must contain.
type explanation struct {
	// Kind, Verb and Name are beginnings, empty for any; Diff lists texts of which each must be in the difference.
	Kind, Verb, Name string
	Diff             []string
	Why              string
}

// run compares two servers.
type run struct {
	up, our      *side
	kinds        map[string]kind
	only         string
	explanations []explanation
	tallies      map[[2]string]*tally
	differences  []difference
}

func newRun(ctx context.Context, up, our *side, only, explained string) (*run, error) {
	r := &run{up: up, our: our, only: only, tallies: map[[2]string]*tally{}}
	data, err := os.ReadFile(explained)
	if err != nil {
		return nil, err
	}
	if err := yaml.UnmarshalStrict(data, &r.explanations); err != nil {
		return nil, fmt.Errorf("%s: %w", explained, err)
	}
	if r.kinds, err = discover(ctx, up); err != nil {
		return nil, err
	}
	// What admission wants to see, which a controller makes in a cluster.
	for _, s := range []*side{up, our} {
		for _, o := range []struct{ path, body string }{
			{"/api/v1/namespaces", `{"metadata":{"name":"diff"}}`},
			{"/api/v1/namespaces/diff/serviceaccounts", `{"metadata":{"name":"default"}}`},
			{"/api/v1/namespaces/default/serviceaccounts", `{"metadata":{"name":"default"}}`},
		} {
			a, err := s.do(ctx, request{method: "POST", path: o.path, contentType: mediaJSON, body: []byte(o.body)})
			if err != nil || a.code > 299 && a.code != 409 {
				return nil, fmt.Errorf("%s: POST %s: %d %v %w", s.Name, o.path, a.code, a.body, err)
			}
		}
	}
	return r, nil
}

func (r *run) ids() []string { return slices.Sorted(maps.Keys(r.kinds)) }

func (r *run) skips(id string) bool { return r.only != "" && !strings.HasSuffix(id, r.only) }

// both sends one request to both and compares the answers.
func (r *run) both(ctx context.Context, id, verb, name string, q request) error {
	if r.skips(id) {
		return nil
	}
	up, err := r.up.do(ctx, q)
	if err != nil {
		return fmt.Errorf("upstream: %s %s: %w", q.method, q.path, err)
	}
	our, err := r.our.do(ctx, q)
	if err != nil {
		return fmt.Errorf("ours: %s %s: %w", q.method, q.path, err)
	}
	r.compare(id, verb, name, up, our)
	return nil
}

// live sends each server a request made from what it has at a path now.
func (r *run) live(ctx context.Context, id, verb, name, item string, change func(map[string]any) request) error {
	if r.skips(id) {
		return nil
	}
	var got [2]answer
	for i, s := range []*side{r.up, r.our} {
		now, err := s.do(ctx, request{method: "GET", path: item})
		if err != nil {
			return fmt.Errorf("%s: GET %s: %w", s.Name, item, err)
		}
		obj, ok := now.body.(map[string]any)
		if !ok {
			obj = map[string]any{}
		}
		q := change(obj)
		if got[i], err = s.do(ctx, q); err != nil {
			return fmt.Errorf("%s: %s %s: %w", s.Name, q.method, q.path, err)
		}
	}
	r.compare(id, verb, name, got[0], got[1])
	return nil
}

func (r *run) compare(id, verb, name string, up, our answer) {
	t := r.tallies[[2]string{id, verb}]
	if t == nil {
		t = &tally{}
		r.tallies[[2]string{id, verb}] = t
	}
	t.compared++
	d := cmp.Diff(up.normal(), our.normal())
	if d == "" {
		t.equal++
		return
	}
	x := difference{id: id, verb: verb, name: name, diff: d}
	for _, e := range r.explanations {
		if e.matches(x) {
			x.why = e.Why
			t.explained++
			break
		}
	}
	r.differences = append(r.differences, x)
}

func (e explanation) matches(d difference) bool {
	if !strings.HasPrefix(d.id, e.Kind) || !strings.HasPrefix(d.verb, e.Verb) || !strings.HasPrefix(d.name, e.Name) {
		return false
	}
	// cmp aligns with non-breaking spaces at random, on purpose.
	text := strings.ReplaceAll(d.diff, "\u00a0", " ")
	for _, want := range e.Diff {
		if !strings.Contains(text, want) {
			return false
		}
	}
	return true
}
