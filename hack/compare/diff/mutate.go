package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
)

// place is one value inside an object.
type place struct {
	parts []string
	value any
}

// places lists every value below an object's top, in a fixed order.
func places(v any, at []string) []place {
	var out []place
	if len(at) > 0 {
		out = append(out, place{slices.Clone(at), v})
	}
	switch x := v.(type) {
	case map[string]any:
		keys := make([]string, 0, len(x))
		for k := range x {
			keys = append(keys, k)
		}
		slices.Sort(keys)
		for _, k := range keys {
			out = append(out, places(x[k], append(at, k))...)
		}
	case []any:
		for i, e := range x {
			out = append(out, places(e, append(at, fmt.Sprint(i)))...)
		}
	}
	return out
}

// strange are values that break assumptions.
func strange(r *rand.Rand) any {
	all := []any{
		nil, "", "UPPER", "a_b", " ", "a/b", "-x", "x-", "ünïcode", strings.Repeat("x", 64), strings.Repeat("x", 254), strings.Repeat("a.", 130),
		0, -1, 1, 65535, 65536, 1 << 31, json.Number("9223372036854775807"), json.Number("1.5"), true, false, "true", "1", "100%", "1Gi", "-1m", "0x10",
		map[string]any{},
		[]any{},
		[]any{nil},
		map[string]any{"unknownField": 1},
	}
	return all[r.IntN(len(all))]
}

// mutate changes one place of a copy, and says what it did.
func mutate(r *rand.Rand, base map[string]any) (map[string]any, string) {
	obj := clone(base)
	all := slices.DeleteFunc(places(obj, nil), func(p place) bool {
		return p.parts[0] == "apiVersion" || p.parts[0] == "kind" || slices.Equal(p.parts, []string{"metadata"})
	})
	p := all[r.IntN(len(all))]
	where := strings.Join(p.parts, "/")
	switch list, isList := p.value.([]any); r.IntN(6) {
	case 0:
		remove(obj, p.parts)
		return obj, "drop " + where
	case 1:
		if isList && len(list) > 0 {
			assign(obj, p.parts, append(slices.Clone(list), list[0]))
			return obj, "duplicate in " + where
		}
		fallthrough
	case 2:
		if m, ok := p.value.(map[string]any); ok {
			m["unknownField"] = "x"
			return obj, "unknown field in " + where
		}
		fallthrough
	default:
		v := strange(r)
		assign(obj, p.parts, v)
		return obj, fmt.Sprintf("%s = %.40v", where, v)
	}
}

// remove takes a value away.
func remove(node any, parts []string) {
	switch x := node.(type) {
	case map[string]any:
		if len(parts) == 1 {
			delete(x, parts[0])
			return
		}
		remove(x[parts[0]], parts[1:])
	case []any:
		var i int
		if _, err := fmt.Sscan(parts[0], &i); err != nil || i >= len(x) {
			return
		}
		if len(parts) == 1 {
			x[i] = nil
			return
		}
		remove(x[i], parts[1:])
	}
}

// mutations sends n changed copies of an object as creations, updates and each kind of patch.
func (r *run) mutations(ctx context.Context, rnd *rand.Rand, base map[string]any, n int) error {
	id := fmt.Sprintf("%v/%v", base["apiVersion"], base["kind"])
	k := r.kinds[id]
	meta, _ := base["metadata"].(map[string]any)
	item := fmt.Sprintf("%s/%v", k.collection(), meta["name"])
	if err := r.unconditional(ctx, id, k, item, base); err != nil {
		return err
	}
	for range n {
		obj, what := mutate(rnd, base)
		query := "?dryRun=All&fieldManager=mutator&fieldValidation=" + []string{"Strict", "Warn", "Ignore"}[rnd.IntN(3)]
		body := marshal(obj)
		var err error
		switch rnd.IntN(6) {
		case 0, 1:
			err = r.both(ctx, id, "create", what, request{method: "POST", path: k.collection() + query, contentType: mediaJSON, body: body})
		case 2:
			err = r.live(ctx, id, "update", what, item, func(live map[string]any) request {
				liveMeta, _ := live["metadata"].(map[string]any)
				changed := clone(obj)
				if m, ok := changed["metadata"].(map[string]any); ok && m["resourceVersion"] == nil {
					m["resourceVersion"] = liveMeta["resourceVersion"]
				}
				return request{method: "PUT", path: item + query, contentType: mediaJSON, body: marshal(changed)}
			})
		case 3:
			err = r.both(ctx, id, "patch merge", what, request{method: "PATCH", path: item + query, contentType: "application/merge-patch+json", body: body})
		case 4:
			err = r.both(ctx, id, "patch strategic", what, request{method: "PATCH", path: item + query, contentType: "application/strategic-merge-patch+json", body: body})
		default:
			err = r.both(ctx, id, "patch apply", what, request{method: "PATCH", path: item + query + "&force=" + []string{"true", "false"}[rnd.IntN(2)], contentType: "application/apply-patch+yaml", body: body})
		}
		if err != nil {
			return err
		}
		if rnd.IntN(4) > 0 {
			continue
		}
		all := places(base, nil)
		p := all[rnd.IntN(len(all))]
		patch := []map[string]any{{"op": []string{"add", "remove", "replace", "test", "copy", "move", "bad"}[rnd.IntN(7)], "path": "/" + strings.Join(p.parts, "/"), "value": strange(rnd), "from": "/metadata/labels"}}
		if err := r.both(ctx, id, "patch json", brief(string(marshal(patch))), request{method: "PATCH", path: item + query, contentType: "application/json-patch+json", body: marshal(patch)}); err != nil {
			return err
		}
	}
	return nil
}

// unconditional updates without a resource version, what is there and what is not, and deletes with preconditions that do not hold.
func (r *run) unconditional(ctx context.Context, id string, k kind, item string, base map[string]any) error {
	const query = "?dryRun=All&fieldManager=mutator"
	other := clone(base)
	other["metadata"].(map[string]any)["name"] = "there-is-none"
	for _, x := range []struct {
		verb, name string
		request
	}{
		{"update", "without a resource version", request{method: "PUT", path: item + query, contentType: mediaJSON, body: marshal(base)}},
		{"update", "of none", request{method: "PUT", path: k.collection() + "/there-is-none" + query, contentType: mediaJSON, body: marshal(other)}},
		{"update", "under another's name", request{method: "PUT", path: item + query, contentType: mediaJSON, body: marshal(other)}},
		{"patch merge", "of none", request{method: "PATCH", path: k.collection() + "/there-is-none" + query, contentType: "application/merge-patch+json", body: []byte("{}")}},
		{"patch apply", "of none", request{method: "PATCH", path: k.collection() + "/there-is-none" + query, contentType: "application/apply-patch+yaml", body: marshal(other)}},
		{"create", "again", request{method: "POST", path: k.collection() + query, contentType: mediaJSON, body: marshal(base)}},
		{"delete", "of another uid", request{method: "DELETE", path: item + "?dryRun=All", contentType: mediaJSON, body: []byte(`{"preconditions":{"uid":"00000000-0000-0000-0000-000000000000"}}`)}},
		{"delete", "dry run", request{method: "DELETE", path: item + "?dryRun=All"}},
		{"delete", "in the background, dry run", request{method: "DELETE", path: item + "?dryRun=All&propagationPolicy=Background"}},
		{"delete", "in the foreground, dry run", request{method: "DELETE", path: item + "?dryRun=All&propagationPolicy=Foreground"}},
	} {
		if err := r.both(ctx, id, x.verb, x.name, x.request); err != nil {
			return err
		}
	}
	return nil
}
