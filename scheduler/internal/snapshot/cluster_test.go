package snapshot

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
)

func node(name, zone string, cpu int64) *v1.Node {
	n := &v1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{}}}
	if zone != "" {
		n.Labels["zone"] = zone
	}
	n.Status.Allocatable = v1.ResourceList{v1.ResourceCPU: *resource.NewQuantity(cpu, resource.DecimalSI)}
	return n
}

func placed(t *testing.T, name, node, app string, anti bool) *Pod {
	p := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "ns", UID: types.UID(name), Labels: map[string]string{"app": app}}}
	p.Spec.NodeName = node
	p.Spec.Containers = []v1.Container{{Name: "c", Resources: v1.ResourceRequirements{Requests: v1.ResourceList{v1.ResourceCPU: *resource.NewQuantity(1, resource.DecimalSI)}}}}
	if anti {
		p.Spec.Affinity = &v1.Affinity{PodAntiAffinity: &v1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []v1.PodAffinityTerm{{
			TopologyKey: "zone", LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": app}},
		}}}}
	}
	out, err := NewPod(p)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// summary is what plugins read, by names, so that two clusters of different histories compare.
func summary(c *Cluster, terms []Term) map[string]int64 {
	out := map[string]int64{}
	for i, n := range c.Nodes {
		if n == nil {
			continue
		}
		out["cpu "+n.Name] = c.CPU.Requested[i]
		out["pods "+n.Name] = int64(len(c.Pods(i)))
	}
	m := c.Match(terms, false)
	zones := c.Topology("zone")
	for d, v := range c.Domains(m, "zone") {
		if v != 0 {
			out["match "+zones.Values[d]] = v
		}
	}
	c.OwnedTerms(TermAntiAffinity, func(t *Term, domains []int64) {
		for d, v := range domains {
			if v != 0 {
				out["owned "+t.Key+" "+zones.Values[d]] = v
			}
		}
	})
	return out
}

// TestCountsAreIncremental does random edits and compares with a cluster that is built anew from the same objects.
func TestCountsAreIncremental(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // a test
	terms := []Term{NewTerm([]string{"ns"}, nil, labels.SelectorFromSet(labels.Set{"app": "x"}), "zone", 0)}
	c := New()
	c.Match(terms, false)
	nodes, pods := map[string]*v1.Node{}, map[string]*Pod{}
	for range 3000 {
		name := fmt.Sprintf("n%d", r.IntN(8))
		pod := fmt.Sprintf("p%d", r.IntN(40))
		switch r.IntN(6) {
		case 0, 1:
			n := node(name, []string{"", "z1", "z2", "z3"}[r.IntN(4)], 8)
			nodes[name] = n
			c.SetNode(n)
		case 2:
			delete(nodes, name)
			c.RemoveNode(name)
		case 3, 4:
			p := placed(t, pod, name, []string{"x", "y"}[r.IntN(2)], r.IntN(2) == 0)
			pods[pod] = p
			c.AddPod(p)
		case 5:
			delete(pods, pod)
			c.RemovePod(types.UID(pod))
		}
	}
	fresh := New()
	for _, n := range nodes {
		fresh.SetNode(n)
	}
	for _, p := range pods {
		fresh.AddPod(p)
	}
	if d := cmp.Diff(summary(fresh, terms), summary(c, terms)); d != "" {
		t.Errorf("incremental counts differ from fresh ones (-fresh +incremental):\n%s", d)
	}
}
