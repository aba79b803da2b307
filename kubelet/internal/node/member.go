package node

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"sync"
	"time"

	"go.uber.org/zap"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"flagship/internal/kube"
)

// leaseNamespace is where nodes' leases are.
const leaseNamespace = "kube-node-lease"

// MemberConfig is how the node joins.
type MemberConfig struct {
	Name          string
	Register      bool
	Labels        map[string]string
	Taints        []corev1.Taint
	External      bool // a cloud controller initializes the node
	ProviderID    string
	Update        time.Duration // between looks at the status
	Report        time.Duration // between writes of an unchanged status
	LeaseDuration time.Duration
}

// MemberDeps is what a Member acts through.
type MemberDeps struct {
	Log    *zap.Logger
	API    *API
	Client *kube.Client
	Facts  func(ctx context.Context) Facts
	Events func(eventType, reason, message string)
	// CIDR is told the node's pod range when it is assigned.
	CIDR func(ctx context.Context, cidr string)
}

// Member keeps the Node object and its lease.
type Member struct {
	cfg  MemberConfig
	deps MemberDeps
	poke chan struct{}

	mu       sync.Mutex // guards the rest
	node     *corev1.Node
	reported time.Time
	cidr     string
}

// NewMember returns a Member.
func NewMember(cfg MemberConfig, deps MemberDeps) *Member {
	return &Member{cfg: cfg, deps: deps, poke: make(chan struct{}, 1)}
}

// Node is the newest Node object, or what would be registered.
func (m *Member) Node() *corev1.Node {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.node != nil {
		return m.node
	}
	return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: m.cfg.Name, Labels: m.cfg.Labels}}
}

// Fresh asks the API server for the Node object.
func (m *Member) Fresh(ctx context.Context) (*corev1.Node, error) {
	nodes := kube.For[corev1.Node, corev1.NodeList](m.deps.Client, core("nodes"), "")
	node, err := nodes.Get(ctx, m.cfg.Name, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	m.observe(ctx, node)
	return node, nil
}

// Poke makes the status be looked at soon.
func (m *Member) Poke() {
	select {
	case m.poke <- struct{}{}:
	default:
	}
}

// Run registers the node and keeps its status until ctx ends.
func (m *Member) Run(ctx context.Context) error {
	wait := 100 * time.Millisecond
	for m.cfg.Register {
		err := m.register(ctx)
		if err == nil {
			break
		}
		m.deps.Log.Warn("register node", zap.Error(err))
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
		wait = min(wait*2, 7*time.Second)
	}
	// A young node is looked at often, so that it is Ready as soon as its network is.
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	last := time.Time{}
	for {
		if time.Since(last) >= m.cfg.Update || !m.ready() {
			last = time.Now()
			if err := m.update(ctx); err != nil && ctx.Err() == nil {
				m.deps.Log.Warn("update node status", zap.Error(err))
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-m.poke:
			last = time.Time{}
		case <-tick.C:
		}
	}
}

func (m *Member) ready() bool {
	for _, c := range m.Node().Status.Conditions {
		if c.Type == corev1.NodeReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// register creates the Node, or brings the labels of an existing one up to date.
func (m *Member) register(ctx context.Context) error {
	f := m.deps.Facts(ctx)
	labels := map[string]string{
		corev1.LabelHostname: m.cfg.Name, corev1.LabelOSStable: f.Machine.OS, corev1.LabelArchStable: f.Machine.Arch,
		"beta.kubernetes.io/os": f.Machine.OS, "beta.kubernetes.io/arch": f.Machine.Arch,
	}
	maps.Copy(labels, m.cfg.Labels)
	node := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: m.cfg.Name, Labels: labels, Annotations: map[string]string{"volumes.kubernetes.io/controller-managed-attach-detach": "true"}},
		Spec:       corev1.NodeSpec{Taints: m.cfg.Taints, ProviderID: m.cfg.ProviderID},
	}
	if m.cfg.External {
		node.Spec.Taints = append(node.Spec.Taints, corev1.Taint{Key: "node.cloudprovider.kubernetes.io/uninitialized", Value: "true", Effect: corev1.TaintEffectNoSchedule})
	}
	node.Status = Status(corev1.NodeStatus{}, f)
	nodes := kube.For[corev1.Node, corev1.NodeList](m.deps.Client, core("nodes"), "")
	made, err := nodes.Create(ctx, node, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		if made, err = nodes.Get(ctx, m.cfg.Name, metav1.GetOptions{}); err == nil {
			patch, perr := json.Marshal(map[string]any{"metadata": map[string]any{"labels": labels}})
			if perr != nil {
				return perr
			}
			made, err = nodes.Patch(ctx, m.cfg.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{})
		}
	}
	if err != nil {
		return fmt.Errorf("register node %s: %w", m.cfg.Name, err)
	}
	m.deps.Log.Info("node registered", zap.String("node", m.cfg.Name))
	m.observe(ctx, made)
	return nil
}

// Observe takes the Node as the API server shows it.
func (m *Member) Observe(ctx context.Context, node *corev1.Node) { m.observe(ctx, node) }

func (m *Member) observe(ctx context.Context, node *corev1.Node) {
	m.deps.API.setUID(node.UID)
	m.mu.Lock()
	m.node = node
	cidr := node.Spec.PodCIDR
	changed := cidr != "" && cidr != m.cidr
	m.cidr = cidr
	m.mu.Unlock()
	if changed && m.deps.CIDR != nil {
		m.deps.CIDR(ctx, cidr)
	}
}

// update writes the status when it changed or is due.
func (m *Member) update(ctx context.Context) error {
	nodes := kube.For[corev1.Node, corev1.NodeList](m.deps.Client, core("nodes"), "")
	node, err := nodes.Get(ctx, m.cfg.Name, metav1.GetOptions{ResourceVersion: "0"})
	if apierrors.IsNotFound(err) && m.cfg.Register {
		return m.register(ctx)
	}
	if err != nil {
		return err
	}
	m.observe(ctx, node)
	s := Status(node.Status, m.deps.Facts(ctx))
	m.transitions(node.Status, s)
	m.mu.Lock()
	due := time.Since(m.reported) >= m.cfg.Report
	m.mu.Unlock()
	if !due && sameStatus(node.Status, s) {
		return nil
	}
	patch, err := statusPatch(s, m.cfg.External)
	if err != nil {
		return err
	}
	made, err := nodes.Patch(ctx, m.cfg.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
	if err != nil {
		return err
	}
	m.observe(ctx, made)
	m.mu.Lock()
	m.reported = time.Now()
	m.mu.Unlock()
	return nil
}

// sameStatus ignores heartbeat times.
func sameStatus(a, b corev1.NodeStatus) bool {
	x, y := a.DeepCopy(), b.DeepCopy()
	for _, s := range []*corev1.NodeStatus{x, y} {
		for i := range s.Conditions {
			s.Conditions[i].LastHeartbeatTime = metav1.Time{}
		}
	}
	return apiequality.Semantic.DeepEqual(x, y)
}

func statusPatch(s corev1.NodeStatus, external bool) ([]byte, error) {
	raw, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	var body map[string]any
	if err := json.Unmarshal(raw, &body); err != nil {
		return nil, err
	}
	for _, f := range []string{"volumesInUse", "volumesAttached", "config", "phase"} {
		delete(body, f)
	}
	if external {
		delete(body, "addresses")
	} else if list, ok := body["addresses"].([]any); ok {
		body["addresses"] = append(list, map[string]any{"$patch": "replace"})
	}
	return json.Marshal(map[string]any{"status": body})
}

// transitions tells about conditions that changed.
func (m *Member) transitions(old, now corev1.NodeStatus) {
	names := map[corev1.NodeConditionType][2]string{
		corev1.NodeReady:          {"NodeReady", "NodeNotReady"},
		corev1.NodeMemoryPressure: {"NodeHasInsufficientMemory", "NodeHasSufficientMemory"},
		corev1.NodeDiskPressure:   {"NodeHasDiskPressure", "NodeHasNoDiskPressure"},
		corev1.NodePIDPressure:    {"NodeHasInsufficientPID", "NodeHasSufficientPID"},
	}
	before := map[corev1.NodeConditionType]corev1.ConditionStatus{}
	for _, c := range old.Conditions {
		before[c.Type] = c.Status
	}
	for _, c := range now.Conditions {
		n, ok := names[c.Type]
		if !ok || before[c.Type] == c.Status || before[c.Type] == "" && c.Type == corev1.NodeReady && c.Status != corev1.ConditionTrue {
			continue
		}
		reason := n[1]
		if c.Status == corev1.ConditionTrue {
			reason = n[0]
		}
		m.deps.Events(corev1.EventTypeNormal, reason, fmt.Sprintf("Node %s status is now: %s", m.cfg.Name, reason))
	}
}

// RunLease renews the node's lease every quarter of its duration until ctx ends.
func (m *Member) RunLease(ctx context.Context) error {
	period := m.cfg.LeaseDuration / 4
	timer := time.NewTimer(0)
	defer timer.Stop()
	var lease *coordinationv1.Lease
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		next, err := m.renew(ctx, lease)
		if err != nil {
			lease = nil
			if ctx.Err() == nil {
				m.deps.Log.Warn("renew node lease", zap.Error(err))
			}
			timer.Reset(min(period, 2*time.Second))
			continue
		}
		lease = next
		timer.Reset(period)
	}
}

func (m *Member) renew(ctx context.Context, lease *coordinationv1.Lease) (*coordinationv1.Lease, error) {
	leases := kube.For[coordinationv1.Lease, coordinationv1.LeaseList](m.deps.Client, coordinationv1.SchemeGroupVersion.WithResource("leases"), leaseNamespace)
	ctx, cancel := context.WithTimeout(ctx, m.cfg.LeaseDuration/4)
	defer cancel()
	now, seconds, name := metav1.NewMicroTime(time.Now()), int32(m.cfg.LeaseDuration/time.Second), m.cfg.Name
	if lease == nil {
		have, err := leases.Get(ctx, name, metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(err):
			fresh := &coordinationv1.Lease{
				ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: leaseNamespace},
				Spec:       coordinationv1.LeaseSpec{HolderIdentity: &name, LeaseDurationSeconds: &seconds, RenewTime: &now},
			}
			if uid := m.deps.API.NodeUID(); uid != "" {
				fresh.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: name, UID: uid}}
			}
			return leases.Create(ctx, fresh, metav1.CreateOptions{})
		case err != nil:
			return nil, err
		}
		lease = have
	}
	lease = lease.DeepCopy()
	lease.Spec.HolderIdentity, lease.Spec.LeaseDurationSeconds, lease.Spec.RenewTime = &name, &seconds, &now
	if uid := m.deps.API.NodeUID(); uid != "" && len(lease.OwnerReferences) == 0 {
		lease.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: name, UID: uid}}
	}
	return leases.Update(ctx, lease, metav1.UpdateOptions{})
}
