package main

import (
	"context"
	"fmt"
	"slices"

	"flagship/hack/compare/lab"
)

// exchange lets each server open the other's store, and compares every object that both read there.
func exchange(ctx context.Context, l *lab.Lab, r *run, ranges string) error {
	for _, store := range []string{"upstream", "ours"} {
		up, err := serve(ctx, l, "upstream", l.Upstream, store, ranges)
		if err != nil {
			return err
		}
		our, err := serve(ctx, l, "ours", l.Ours, store, ranges)
		if err != nil {
			up.Proc.Stop()
			return err
		}
		r.up, r.our = up, our
		err = r.stored(ctx, store)
		up.Proc.Stop()
		our.Proc.Stop()
		if err != nil {
			return err
		}
	}
	return nil
}

// stored compares every object of one store, as both servers read it.
func (r *run) stored(ctx context.Context, store string) error {
	for _, id := range r.ids() {
		k := r.kinds[id]
		if !slices.Contains(k.Verbs, "list") || r.skips(id) {
			continue
		}
		var items [2]map[string]any
		for i, s := range []*side{r.up, r.our} {
			a, err := s.do(ctx, request{method: "GET", path: k.all()})
			if err != nil {
				return fmt.Errorf("%s: list %s: %w", s.Name, id, err)
			}
			if items[i], err = byName(a); err != nil {
				return fmt.Errorf("%s: list %s: %w", s.Name, id, err)
			}
		}
		for name := range items[0] {
			up, our := answer{code: 200, body: items[0][name]}, answer{code: 200, body: items[1][name]}
			r.compare(id, "read from the store of "+store, name, up, our)
		}
		for name := range items[1] {
			if items[0][name] == nil {
				r.compare(id, "read from the store of "+store, name, answer{code: 404}, answer{code: 200, body: items[1][name]})
			}
		}
	}
	return nil
}

// all is the path of a kind's objects in all namespaces.
func (k kind) all() string {
	k.Namespaced = false
	return k.collection()
}

func byName(a answer) (map[string]any, error) {
	list, ok := a.body.(map[string]any)
	items, isList := list["items"].([]any)
	if a.code != 200 || !ok || !isList && list["items"] != nil {
		return nil, fmt.Errorf("%d: %.200v", a.code, a.body)
	}
	out := map[string]any{}
	for _, it := range items {
		m, _ := it.(map[string]any)
		meta, _ := m["metadata"].(map[string]any)
		out[fmt.Sprintf("%v/%v", meta["namespace"], meta["name"])] = it
	}
	return out, nil
}
