package allocate

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// needsPort is whether each port of a service gets a node port.
func needsPort(s *corev1.Service) bool {
	switch s.Spec.Type {
	case corev1.ServiceTypeNodePort:
		return true
	case corev1.ServiceTypeLoadBalancer:
		return s.Spec.AllocateLoadBalancerNodePorts == nil || *s.Spec.AllocateLoadBalancerNodePorts
	}
	return false
}

// mayHavePort is whether ports of a service may have node ports.
func mayHavePort(s *corev1.Service) bool {
	return s.Spec.Type == corev1.ServiceTypeNodePort || s.Spec.Type == corev1.ServiceTypeLoadBalancer
}

func needsHealthPort(s *corev1.Service) bool {
	return s.Spec.Type == corev1.ServiceTypeLoadBalancer && s.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal
}

// nodePorts are the ports of every node that a service has.
func nodePorts(s *corev1.Service) []int32 {
	var out []int32
	for _, p := range s.Spec.Ports {
		if p.NodePort != 0 {
			out = append(out, p.NodePort)
		}
	}
	if needsHealthPort(s) && s.Spec.HealthCheckNodePort != 0 {
		out = append(out, s.Spec.HealthCheckNodePort)
	}
	return out
}

// portTaker takes node ports for one write.
type portTaker struct {
	cfg     *Config
	metrics *Metrics
	used    sets.Set[int32] // by others; empty where nobody asks
	taken   []int32
	dryRun  bool
}

// counted counts an attempt to take a port.
func (t *portTaker) counted(scope string, err error) {
	switch {
	case t.dryRun:
	case err != nil:
		t.metrics.portErrors.WithLabelValues(scope).Inc()
	default:
		t.metrics.ports.WithLabelValues(scope).Inc()
	}
}

// take takes a port that a client asks for.
func (t *portTaker) take(port int32) (err error) {
	defer func() { t.counted(static, err) }()
	switch {
	case t.used.Has(port) || slices.Contains(t.taken, port):
		return errors.New("provided port is already allocated")
	case !t.dryRun && (port < t.cfg.FirstPort || port > t.cfg.LastPort):
		return fmt.Errorf("provided port is not in the valid range. The range of valid ports is %d-%d", t.cfg.FirstPort, t.cfg.LastPort)
	}
	t.taken = append(t.taken, port)
	return nil
}

// any takes a free port: one of the upper part of the range, as long as there is one, KEP-3668. In a dry run it is a number that tells that a port will be there.
func (t *portTaker) any() (int32, error) {
	if t.dryRun {
		port := int32(32768)
		if len(t.taken) > 0 {
			port = slices.Max(t.taken)
		}
		t.taken = append(t.taken, port+1)
		return port + 1, nil
	}
	size := t.cfg.LastPort - t.cfg.FirstPort + 1
	low := int32(0)
	if size > 16 {
		low = min(max(size/32, 16), 128)
	}
	for _, part := range [][2]int32{{low, size}, {0, low}} {
		n := part[1] - part[0]
		if n <= 0 {
			continue
		}
		first := rand.Int32N(n) //nolint:gosec // a port is no secret
		for i := range n {
			if port := t.cfg.FirstPort + part[0] + (first+i)%n; !t.used.Has(port) && !slices.Contains(t.taken, port) {
				t.taken = append(t.taken, port)
				t.counted(dynamic, nil)
				return port, nil
			}
		}
	}
	t.counted(dynamic, errFull)
	return 0, apierrors.NewInternalError(fmt.Errorf("failed to allocate a nodePort: %w", errFull))
}

func badPort(svc *corev1.Service, i int, port int32, err error) error {
	return invalid(svc, field.Invalid(field.NewPath("spec", "ports").Index(i).Child("nodePort"), port, err.Error()))
}

// create gives a new service its node ports. Ports of one number, of different protocols, share a node port.
func (t *portTaker) create(svc *corev1.Service) error {
	shared := map[int32]int32{}
	for i := range svc.Spec.Ports {
		p := &svc.Spec.Ports[i]
		if p.NodePort == 0 && !needsPort(svc) {
			continue
		}
		have := shared[p.Port]
		switch {
		case have == 0:
			want := p.NodePort
			if at := slices.IndexFunc(svc.Spec.Ports, func(o corev1.ServicePort) bool { return o.Port == p.Port && o.NodePort != 0 }); at >= 0 {
				want = svc.Spec.Ports[at].NodePort
			}
			if want != 0 {
				if err := t.take(want); err != nil {
					return badPort(svc, i, want, err)
				}
			} else {
				var err error
				if want, err = t.any(); err != nil {
					return err
				}
			}
			p.NodePort, shared[p.Port] = want, want
		case p.NodePort == 0:
			p.NodePort = have
		case p.NodePort != have:
			if err := t.take(p.NodePort); err != nil {
				return badPort(svc, i, p.NodePort, err)
			}
		}
	}
	return nil
}

// update gives an updated service the node ports that it has not had.
func (t *portTaker) update(svc, was *corev1.Service) error {
	type pair struct {
		protocol corev1.Protocol
		port     int32
	}
	seen, had := sets.Set[pair]{}, sets.Set[int32]{}
	for _, p := range was.Spec.Ports {
		had.Insert(p.NodePort)
	}
	for i := range svc.Spec.Ports {
		p := &svc.Spec.Ports[i]
		switch {
		case p.NodePort == 0 && !needsPort(svc):
			continue
		case p.NodePort == 0:
			port, err := t.any()
			if err != nil {
				return err
			}
			p.NodePort = port
		case !had.Has(p.NodePort) && !slices.Contains(t.taken, p.NodePort):
			if err := t.take(p.NodePort); err != nil {
				return badPort(svc, i, p.NodePort, err)
			}
		}
		k := pair{p.Protocol, p.NodePort}
		if seen.Has(k) {
			return fmt.Errorf("duplicate nodePort: {%s %d}", k.protocol, k.port)
		}
		seen.Insert(k)
	}
	return nil
}

// health gives a service its port for health checks.
func (t *portTaker) health(svc *corev1.Service) error {
	port := svc.Spec.HealthCheckNodePort
	if port != 0 {
		if err := t.take(port); err != nil {
			return apierrors.NewInternalError(fmt.Errorf("failed to allocate requested HealthCheck NodePort %d: %w", port, err))
		}
		return nil
	}
	port, err := t.any()
	if err != nil {
		return apierrors.NewInternalError(fmt.Errorf("failed to allocate a HealthCheck NodePort %d: %w", 0, errFull))
	}
	svc.Spec.HealthCheckNodePort = port
	return nil
}

// ports takes the node ports that a service needs and has not, and says which it took and which the service gives up.
func (h *Hooks) takePorts(svc, was *corev1.Service, dryRun bool) (taken, left []int32, err error) {
	health := needsHealthPort(svc) && (was == nil || !needsHealthPort(was))
	if !mayHavePort(svc) && (was == nil || !mayHavePort(was)) {
		return nil, nil, nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	t := &portTaker{cfg: &h.cfg, metrics: h.metrics, dryRun: dryRun}
	if t.used, err = h.usedPorts(); err != nil {
		return nil, nil, err
	}
	switch {
	case !mayHavePort(svc):
	case was == nil:
		err = t.create(svc)
	default:
		err = t.update(svc, was)
	}
	if err == nil && health {
		err = t.health(svc)
	}
	if err != nil || dryRun {
		return nil, nil, err
	}
	for _, p := range t.taken {
		h.ports[p] = struct{}{}
		t.used.Insert(p)
	}
	h.portCount = 0
	for p := range t.used {
		if h.inRange(p) {
			h.portCount++
		}
	}
	h.metrics.heldPorts(h.portCount, h.portsInRange())
	if was != nil {
		now := nodePorts(svc)
		if !mayHavePort(svc) {
			now = nil
		}
		left = slices.DeleteFunc(nodePorts(was), func(p int32) bool { return slices.Contains(now, p) })
	}
	return t.taken, left, nil
}

// usedPorts are the ports of cached services and of those being written. The caller holds mu.
func (h *Hooks) usedPorts() (sets.Set[int32], error) {
	used := sets.KeySet(h.ports)
	err := h.objects.Each(services, "", func(o runtime.Object) bool {
		used.Insert(nodePorts(o.(*corev1.Service))...)
		return true
	})
	return used, err
}

func (h *Hooks) freePorts(ports []int32) {
	h.mu.Lock()
	defer h.mu.Unlock()
	given := 0
	for i, p := range ports {
		delete(h.ports, p)
		if h.inRange(p) && !slices.Contains(ports[:i], p) {
			given++
		}
	}
	if given > 0 {
		h.portCount = max(0, h.portCount-given)
		h.metrics.heldPorts(h.portCount, h.portsInRange())
	}
}

func (h *Hooks) inRange(port int32) bool { return port >= h.cfg.FirstPort && port <= h.cfg.LastPort }

func (h *Hooks) portsInRange() int { return int(h.cfg.LastPort-h.cfg.FirstPort) + 1 }
