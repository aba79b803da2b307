package snapshot

import (
	"fmt"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// HostPort is a port that a pod takes on its node. IP is "0.0.0.0" for every address.
type HostPort struct {
	Protocol v1.Protocol
	IP       string
	Port     int32
}

// Overlaps says whether two host ports cannot be held by two pods of one node.
func (p HostPort) Overlaps(o HostPort) bool {
	return p.Port == o.Port && p.Protocol == o.Protocol && (p.IP == o.IP || p.IP == anyIP || o.IP == anyIP)
}

const anyIP = "0.0.0.0"

// Term is a parsed pod affinity term.
type Term struct {
	// Key names what is selected (namespaces and selectors, not the topology key) canonically.
	Key         string
	Namespaces  []string
	NSSelector  labels.Selector
	Selector    labels.Selector
	TopologyKey string
	// Weight is 0 for required terms.
	Weight int32
}

// Matches says whether a pod of that namespace and those labels is selected.
func (t *Term) Matches(namespace string, podLabels, nsLabels labels.Set) bool {
	if !slices.Contains(t.Namespaces, namespace) && !t.NSSelector.Matches(nsLabels) {
		return false
	}
	return t.Selector.Matches(podLabels)
}

// Pod is a pod with all that cycles read of it computed once. It is immutable.
type Pod struct {
	*v1.Pod
	Priority int32
	Req      Resources
	NonZero  Resources
	Ports    []HostPort

	Affinity     []Term
	AntiAffinity []Term
	PrefAffinity []Term
	PrefAnti     []Term
}

// Key is namespace/name.
func (p *Pod) Key() string { return p.Namespace + "/" + p.Name }

// NewPod computes a Pod. The API object is kept, not copied.
//
// Errors: a selector that does not parse; the pod is returned all the same, without the terms that failed.
func NewPod(pod *v1.Pod) (*Pod, error) {
	p := &Pod{Pod: pod}
	if pod.Spec.Priority != nil {
		p.Priority = *pod.Spec.Priority
	}
	p.Req, p.NonZero = podRequests(pod, pod.Spec.NodeName != "")
	p.Ports = hostPorts(pod)
	err := p.parseAffinity()
	return p, err
}

func hostPorts(pod *v1.Pod) []HostPort {
	var out []HostPort
	add := func(c *v1.Container) {
		for _, port := range c.Ports {
			if port.HostPort <= 0 {
				continue
			}
			hp := HostPort{Protocol: port.Protocol, IP: port.HostIP, Port: port.HostPort}
			if hp.Protocol == "" {
				hp.Protocol = v1.ProtocolTCP
			}
			if hp.IP == "" || hp.IP == "::" {
				hp.IP = anyIP
			}
			out = append(out, hp)
		}
	}
	for i := range pod.Spec.Containers {
		add(&pod.Spec.Containers[i])
	}
	for i := range pod.Spec.InitContainers {
		c := &pod.Spec.InitContainers[i]
		if c.RestartPolicy != nil && *c.RestartPolicy == v1.ContainerRestartPolicyAlways {
			add(c)
		}
	}
	return out
}

func (p *Pod) parseAffinity() error {
	a := p.Spec.Affinity
	if a == nil {
		return nil
	}
	var errs []string
	required := func(in []v1.PodAffinityTerm) (out []Term) {
		for i := range in {
			t, err := newTerm(p.Pod, &in[i], 0)
			if err != nil {
				errs = append(errs, err.Error())
				continue
			}
			out = append(out, t)
		}
		return out
	}
	preferred := func(in []v1.WeightedPodAffinityTerm) (out []Term) {
		for i := range in {
			t, err := newTerm(p.Pod, &in[i].PodAffinityTerm, in[i].Weight)
			if err != nil {
				errs = append(errs, err.Error())
				continue
			}
			out = append(out, t)
		}
		return out
	}
	if a.PodAffinity != nil {
		p.Affinity = required(a.PodAffinity.RequiredDuringSchedulingIgnoredDuringExecution)
		p.PrefAffinity = preferred(a.PodAffinity.PreferredDuringSchedulingIgnoredDuringExecution)
	}
	if a.PodAntiAffinity != nil {
		p.AntiAffinity = required(a.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution)
		p.PrefAnti = preferred(a.PodAntiAffinity.PreferredDuringSchedulingIgnoredDuringExecution)
	}
	if len(errs) > 0 {
		return fmt.Errorf("parsing pod: %s", strings.Join(errs, "; "))
	}
	return nil
}

func newTerm(pod *v1.Pod, in *v1.PodAffinityTerm, weight int32) (Term, error) {
	selector, err := metav1.LabelSelectorAsSelector(in.LabelSelector)
	if err != nil {
		return Term{}, err
	}
	nsSelector, err := metav1.LabelSelectorAsSelector(in.NamespaceSelector)
	if err != nil {
		return Term{}, err
	}
	namespaces := slices.Clone(in.Namespaces)
	if len(namespaces) == 0 && in.NamespaceSelector == nil {
		namespaces = []string{pod.Namespace}
	}
	return NewTerm(namespaces, nsSelector, selector, in.TopologyKey, weight), nil
}

// NewTerm makes a term of its parts; namespaces is taken over.
func NewTerm(namespaces []string, nsSelector, selector labels.Selector, topologyKey string, weight int32) Term {
	slices.Sort(namespaces)
	ns := "-"
	if nsSelector == nil {
		nsSelector = labels.Nothing()
	}
	if _, selectable := nsSelector.Requirements(); selectable {
		ns = "+" + nsSelector.String()
	}
	sel := "-"
	if _, selectable := selector.Requirements(); selectable {
		sel = "+" + selector.String()
	}
	return Term{
		Key:        strings.Join(namespaces, ",") + "|" + ns + "|" + sel,
		Namespaces: namespaces, NSSelector: nsSelector, Selector: selector, TopologyKey: topologyKey, Weight: weight,
	}
}
