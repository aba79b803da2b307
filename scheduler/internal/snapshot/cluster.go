package snapshot

import (
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
)

// Column is one resource over all nodes.
type Column struct {
	Allocatable []int64
	Requested   []int64
}

// Cluster is the state of all nodes and placed pods. A node is an ordinal into the columns. A slot whose Nodes entry is
// nil holds pods of a node that is not known (yet, or any more).
type Cluster struct {
	Nodes []*v1.Node
	names []string
	index map[string]int
	free  []int
	order []int // known nodes, zones taking turns
	dirty bool  // order is to be computed anew

	CPU, Memory, Ephemeral Column
	NonZeroCPU             []int64
	NonZeroMemory          []int64
	AllowedPods            []int64
	Scalar                 map[v1.ResourceName]*Column

	podsOn [][]*Pod
	ports  [][]HostPort
	placed map[types.UID]int // node ordinal

	images     []map[string]int64 // bytes by normalized image name
	imageNodes map[string]int     // how many nodes have it

	topology   map[string]*Topology
	matchers   map[string]*Matcher
	owned      [termKinds]map[ownedKey]*Owned
	namespaces map[string]labels.Set
	clock      uint64

	// Claims counts the placed pods that use each claim, by namespace/name.
	Claims map[string]int

	Volumes   *Volumes
	Selectors *Selectors
}

// New returns an empty cluster.
func New() *Cluster {
	c := &Cluster{
		index: map[string]int{}, Scalar: map[v1.ResourceName]*Column{}, placed: map[types.UID]int{},
		imageNodes: map[string]int{}, topology: map[string]*Topology{}, matchers: map[string]*Matcher{},
		namespaces: map[string]labels.Set{}, Claims: map[string]int{}, Volumes: newVolumes(), Selectors: newSelectors(),
	}
	for i := range c.owned {
		c.owned[i] = map[ownedKey]*Owned{}
	}
	return c
}

// Order lists the known nodes' ordinals, zones taking turns. It must not be changed.
func (c *Cluster) Order() []int {
	if c.dirty {
		c.order, c.dirty = c.zoneOrder(), false
	}
	return c.order
}

func (c *Cluster) zoneOrder() []int {
	zones := map[string][]int{}
	var names []string
	for i, n := range c.Nodes {
		if n == nil {
			continue
		}
		zone := n.Labels[v1.LabelTopologyRegion] + "\x00" + n.Labels[v1.LabelTopologyZone]
		if _, ok := zones[zone]; !ok {
			names = append(names, zone)
		}
		zones[zone] = append(zones[zone], i)
	}
	slices.Sort(names)
	out := make([]int, 0, len(c.Nodes))
	for round := 0; ; round++ {
		before := len(out)
		for _, z := range names {
			if round < len(zones[z]) {
				out = append(out, zones[z][round])
			}
		}
		if len(out) == before {
			return out
		}
	}
}

// Index finds a known node by name.
func (c *Cluster) Index(name string) (int, bool) {
	i, ok := c.index[name]
	return i, ok && c.Nodes[i] != nil
}

// Name is a node's name.
func (c *Cluster) Name(node int) string { return c.names[node] }

// Pods are the pods placed on a node. The slice must not be kept nor changed.
func (c *Cluster) Pods(node int) []*Pod { return c.podsOn[node] }

// Ports are the host ports taken on a node.
func (c *Cluster) Ports(node int) []HostPort { return c.ports[node] }

// NodeOf finds the node that a placed pod is on.
func (c *Cluster) NodeOf(uid types.UID) (int, bool) {
	n, ok := c.placed[uid]
	return n, ok
}

// NumPods is how many pods are placed.
func (c *Cluster) NumPods() int { return len(c.placed) }

// NamespaceLabels are the labels of a namespace, nil when it is not known.
func (c *Cluster) NamespaceLabels(name string) labels.Set { return c.namespaces[name] }

// Image gives the size in bytes of an image on a node and the number of nodes that have it.
func (c *Cluster) Image(node int, name string) (size int64, nodes int, ok bool) {
	size, ok = c.images[node][name]
	return size, c.imageNodes[name], ok
}

// Topology numbers the values of a node label, and keeps doing so.
func (c *Cluster) Topology(key string) *Topology {
	if t, ok := c.topology[key]; ok {
		return t
	}
	t := &Topology{Of: make([]int32, len(c.Nodes)), index: map[string]int32{}}
	c.topology[key] = t
	for i := range c.Nodes {
		t.Of[i] = -1
		if n := c.Nodes[i]; n != nil {
			if v, ok := n.Labels[key]; ok {
				t.Of[i] = t.ordinal(v)
				t.nodes[t.Of[i]]++
			}
		}
	}
	return t
}

// slot finds or makes the ordinal of a node name.
func (c *Cluster) slot(name string) int {
	if i, ok := c.index[name]; ok {
		return i
	}
	var i int
	if n := len(c.free); n > 0 {
		i, c.free = c.free[n-1], c.free[:n-1]
	} else {
		i = len(c.Nodes)
		c.Nodes = append(c.Nodes, nil)
		c.names = append(c.names, "")
		c.podsOn = append(c.podsOn, nil)
		c.ports = append(c.ports, nil)
		c.images = append(c.images, nil)
		c.NonZeroCPU = append(c.NonZeroCPU, 0)
		c.NonZeroMemory = append(c.NonZeroMemory, 0)
		c.AllowedPods = append(c.AllowedPods, 0)
		for _, col := range c.columns() {
			col.Allocatable = append(col.Allocatable, 0)
			col.Requested = append(col.Requested, 0)
		}
		for _, t := range c.topology {
			t.Of = append(t.Of, -1)
		}
	}
	c.index[name], c.names[i] = i, name
	return i
}

func (c *Cluster) columns() []*Column {
	out := []*Column{&c.CPU, &c.Memory, &c.Ephemeral}
	for _, col := range c.Scalar {
		out = append(out, col)
	}
	return out
}

// release frees a slot that has neither node nor pods.
func (c *Cluster) release(i int) {
	if c.Nodes[i] != nil || len(c.podsOn[i]) > 0 {
		return
	}
	delete(c.index, c.names[i])
	c.names[i] = ""
	c.free = append(c.free, i)
}

func (c *Cluster) column(name v1.ResourceName) *Column {
	col, ok := c.Scalar[name]
	if !ok {
		col = &Column{Allocatable: make([]int64, len(c.Nodes)), Requested: make([]int64, len(c.Nodes))}
		c.Scalar[name] = col
	}
	return col
}

// SetNode adds or replaces a node and returns its ordinal and what changed; added says that it was not known.
func (c *Cluster) SetNode(n *v1.Node) (node int, change NodeChange, added bool) {
	i := c.slot(n.Name)
	old := c.Nodes[i]
	c.Nodes[i] = n
	if old == nil {
		added = true
		c.dirty = true
	} else {
		change = diffNode(old, n)
		if change.Labels {
			c.dirty = true
		}
	}
	c.setAllocatable(i, n.Status.Allocatable)
	c.setTopology(i, n.Labels)
	c.setImages(i, n.Status.Images)
	return i, change, added
}

// RemoveNode forgets a node; pods on it stay counted until they are removed.
func (c *Cluster) RemoveNode(name string) {
	i, ok := c.Index(name)
	if !ok {
		return
	}
	c.Nodes[i] = nil
	c.dirty = true
	c.setAllocatable(i, nil)
	c.setTopology(i, nil)
	c.setImages(i, nil)
	c.release(i)
}

func (c *Cluster) setAllocatable(i int, list v1.ResourceList) {
	r := FromList(list)
	c.CPU.Allocatable[i], c.Memory.Allocatable[i], c.Ephemeral.Allocatable[i] = r.MilliCPU, r.Memory, r.Ephemeral
	for _, col := range c.Scalar {
		col.Allocatable[i] = 0
	}
	for name, v := range r.Scalar {
		c.column(name).Allocatable[i] = v
	}
	c.AllowedPods[i] = 0
	if q, ok := list[v1.ResourcePods]; ok {
		c.AllowedPods[i] = q.Value()
	}
}

func (c *Cluster) setTopology(i int, nodeLabels map[string]string) {
	for key, t := range c.topology {
		from, to := t.Of[i], int32(-1)
		if v, ok := nodeLabels[key]; ok {
			to = t.ordinal(v)
		}
		if from == to {
			continue
		}
		if from >= 0 {
			t.nodes[from]--
		}
		if to >= 0 {
			t.nodes[to]++
		}
		t.Of[i] = to
		for _, m := range c.matchers {
			m.move(key, i, from, to)
		}
		for kind := range c.owned {
			for _, o := range c.owned[kind] {
				o.move(key, i, from, to)
			}
		}
	}
}

func (c *Cluster) setImages(i int, images []v1.ContainerImage) {
	for name := range c.images[i] {
		if c.imageNodes[name]--; c.imageNodes[name] <= 0 {
			delete(c.imageNodes, name)
		}
	}
	c.images[i] = nil
	if len(images) == 0 {
		return
	}
	m := make(map[string]int64, len(images))
	for _, img := range images {
		for _, name := range img.Names {
			if _, ok := m[name]; !ok {
				c.imageNodes[name]++
			}
			m[name] = img.SizeBytes
		}
	}
	c.images[i] = m
}

// ImageName appends :latest where an image has neither tag nor digest.
func ImageName(name string) string {
	if strings.LastIndex(name, ":") <= strings.LastIndex(name, "/") {
		return name + ":latest"
	}
	return name
}

// AddPod counts a pod on the node that its spec.nodeName says, replacing what was counted of the same UID.
func (c *Cluster) AddPod(p *Pod) { c.Place(p, p.Spec.NodeName) }

// Place counts a pod on a node, whatever its spec says.
func (c *Cluster) Place(p *Pod, nodeName string) {
	c.RemovePod(p.UID)
	i := c.slot(nodeName)
	c.placed[p.UID] = i
	c.podsOn[i] = append(c.podsOn[i], p)
	c.ports[i] = append(c.ports[i], p.Ports...)
	c.count(p, i, 1)
}

// RemovePod forgets a placed pod and returns it, nil when it was not placed.
func (c *Cluster) RemovePod(uid types.UID) *Pod {
	i, ok := c.placed[uid]
	if !ok {
		return nil
	}
	delete(c.placed, uid)
	at := slices.IndexFunc(c.podsOn[i], func(p *Pod) bool { return p.UID == uid })
	p := c.podsOn[i][at]
	c.podsOn[i] = slices.Delete(c.podsOn[i], at, at+1)
	for _, port := range p.Ports {
		if k := slices.Index(c.ports[i], port); k >= 0 {
			c.ports[i] = slices.Delete(c.ports[i], k, k+1)
		}
	}
	c.count(p, i, -1)
	c.release(i)
	return p
}

func (c *Cluster) count(p *Pod, i int, sign int32) {
	s := int64(sign)
	c.CPU.Requested[i] += s * p.Req.MilliCPU
	c.Memory.Requested[i] += s * p.Req.Memory
	c.Ephemeral.Requested[i] += s * p.Req.Ephemeral
	c.NonZeroCPU[i] += s * p.NonZero.MilliCPU
	c.NonZeroMemory[i] += s * p.NonZero.Memory
	for name, v := range p.Req.Scalar {
		c.column(name).Requested[i] += s * v
	}
	for _, m := range c.matchers {
		if m.matches(c, p) {
			m.add(c, i, sign)
		}
	}
	for kind, terms := range [termKinds][]Term{p.Affinity, p.AntiAffinity, p.PrefAffinity, p.PrefAnti} {
		c.countOwned(TermKind(kind), terms, i, sign)
	}
	for v := range p.Spec.Volumes {
		if key := ClaimKey(p.Pod, &p.Spec.Volumes[v]); key != "" {
			if c.Claims[key] += int(sign); c.Claims[key] == 0 {
				delete(c.Claims, key)
			}
		}
	}
}

// SetNamespace notes a namespace's labels; nil forgets them. Counts that depend on namespace labels are begun anew.
func (c *Cluster) SetNamespace(name string, l labels.Set) {
	old, known := c.namespaces[name]
	if l == nil {
		delete(c.namespaces, name)
	} else {
		c.namespaces[name] = l
	}
	if known && labels.Equals(old, l) {
		return
	}
	for key, m := range c.matchers {
		for i := range m.terms {
			if _, selectable := m.terms[i].NSSelector.Requirements(); selectable {
				delete(c.matchers, key)
				break
			}
		}
	}
}
