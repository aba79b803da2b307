package gc

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

func obj(uid string, owners ...string) object {
	o := object{uid: types.UID(uid), name: uid}
	yes := true
	for _, w := range owners {
		o.owners = append(o.owners, metav1.OwnerReference{UID: types.UID(w), Name: w, Kind: "K", APIVersion: "v1", BlockOwnerDeletion: &yes})
	}
	return o
}

func sorted(uids []types.UID) []string {
	out := []string{}
	for _, u := range uids {
		out = append(out, string(u))
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func TestGraph(t *testing.T) {
	g := newGraph()
	g.set(obj("rs"))
	if fx := g.set(obj("pod", "rs")); !slices.Equal(sorted(fx.check), []string{"pod"}) {
		t.Errorf("new dependent: check %v", fx.check)
	}
	if fx := g.set(obj("lost", "gone")); !slices.Equal(sorted(fx.check), []string{"gone", "lost"}) {
		t.Errorf("unknown owner: check %v", fx.check)
	}
	if !g.nodes["gone"].virtual {
		t.Error("an owner that no watch has shown is not virtual")
	}
	fx := g.remove("rs")
	if !slices.Equal(sorted(fx.check), []string{"pod"}) || !g.isAbsent("rs") {
		t.Errorf("owner gone: check %v, absent %v", fx.check, g.isAbsent("rs"))
	}
	g.remove("pod")
	if g.nodes["rs"] != nil {
		t.Error("a virtual owner without dependents stays")
	}
}

func TestGraphForeground(t *testing.T) {
	g := newGraph()
	g.set(obj("d"))
	g.set(obj("rs", "d"))
	going := obj("d")
	going.deleting, going.foreground = true, true
	if fx := g.set(going); !slices.Equal(sorted(fx.check), []string{"d", "rs"}) {
		t.Errorf("foreground deletion: check %v", fx.check)
	}
	if n := g.blocking(g.nodes["d"]); len(n) != 1 || n[0].uid != "rs" {
		t.Errorf("blocking %v", n)
	}
	if fx := g.remove("rs"); !slices.Equal(sorted(fx.check), []string{"d"}) {
		t.Errorf("last dependent gone: check %v", fx.check)
	}
	orphaning := obj("x")
	orphaning.deleting, orphaning.orphan = true, true
	if fx := g.set(orphaning); !slices.Equal(sorted(fx.orphan), []string{"x"}) {
		t.Errorf("orphaning: %v", fx.orphan)
	}
}

func TestJudge(t *testing.T) {
	ref := func(uid string) []metav1.OwnerReference { return []metav1.OwnerReference{{UID: types.UID(uid)}} }
	for name, tc := range map[string]struct {
		solid, dangling, waiting []metav1.OwnerReference
		dependents               bool
		finalizers               []string
		want                     fate
	}{
		"owned":                                  {solid: ref("a"), want: fate{}},
		"owned by one yet":                       {solid: ref("a"), dangling: ref("b"), want: fate{drop: []types.UID{"b"}}},
		"owned by none":                          {dangling: ref("b"), want: fate{policy: metav1.DeletePropagationBackground}},
		"waited for":                             {waiting: ref("b"), want: fate{policy: metav1.DeletePropagationBackground}},
		"waited for, with dependents of its own": {waiting: ref("b"), dependents: true, want: fate{policy: metav1.DeletePropagationForeground, unblock: true}},
		"orphans its own":                        {dangling: ref("b"), finalizers: []string{metav1.FinalizerOrphanDependents}, want: fate{policy: metav1.DeletePropagationOrphan}},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, judge(tc.solid, tc.dangling, tc.waiting, tc.dependents, tc.finalizers), cmp.AllowUnexported(fate{})); diff != "" {
				t.Error(diff)
			}
		})
	}
}
