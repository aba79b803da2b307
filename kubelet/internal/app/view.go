package app

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"

	"flagship/internal/decision"
	"flagship/internal/kube"
	"flagship/internal/version"
	"flagship/kubelet/internal/node"
	"flagship/kubelet/internal/podspec"
	"flagship/kubelet/internal/runconfig"
	"flagship/kubelet/internal/volume"
)

var errStandalone = errors.New("there is no API server: the kubelet runs without --kubeconfig")

// Update hands a pod of any source to its worker.
func (k *kubelet) Update(ctx context.Context, pod *corev1.Pod) {
	if podspec.IsStatic(pod) && k.mirrors != nil {
		k.mirrors.Declare(podspec.FullName(pod), pod)
	}
	if k.api != nil {
		k.api.Refer(ctx, pod)
		k.issuer.Track(pod)
	}
	k.pool.Update(ctx, pod)
}

// Remove tells the worker that its pod is gone from the source.
func (k *kubelet) Remove(uid types.UID) {
	if k.mirrors != nil {
		for _, p := range k.pool.Pods() {
			if p.UID == uid && podspec.IsStatic(p) {
				if cur := k.mirrors.Static(podspec.FullName(p)); cur == nil || cur.UID == uid {
					k.mirrors.Declare(podspec.FullName(p), nil)
				}
			}
		}
	}
	if k.issuer != nil {
		k.issuer.Forget(uid)
	}
	k.pool.Remove(uid)
}

// freshNode bounds the wait for the Node object of an admission.
const freshNode = 10 * time.Second

// Admit says why a pod cannot run here. Labels that do not match are read again: the scheduler may know newer ones.
func (k *kubelet) Admit(ctx context.Context, pod *corev1.Pod, others []*corev1.Pod) (reason, message string) {
	n := &corev1.Node{}
	if k.member != nil {
		n = k.member.Node()
	}
	in := node.AdmitInput{Pod: pod, Others: others, Node: n, Allocatable: k.allocatable, UnsafeSysctls: k.cfg.AllowedUnsafeSysctls, StrictGroups: k.health.Status().Features.GetSupplementalGroupsPolicy()}
	if k.evictor != nil {
		in.Pressure = k.evictor.Conditions()
	}
	reason, message = node.Admit(in)
	if reason != node.ReasonNodeAffinity || k.member == nil {
		return reason, message
	}
	ctx, cancel := context.WithTimeout(ctx, freshNode)
	defer cancel()
	fresh, err := k.member.Fresh(ctx)
	if err != nil {
		k.log.Warn("labels of the node were not read again for a pod that they do not match", zap.String("pod", podspec.FullName(pod)), zap.Error(err))
		return reason, message
	}
	in.Node = fresh
	return node.Admit(in)
}

// NetworkError is why pods with a network of their own cannot start.
func (k *kubelet) NetworkError() error { return k.health.NetworkError() }

// recursiveReadOnly is what the runtime's default handler can do.
func (k *kubelet) recursiveReadOnly() bool {
	for _, h := range k.health.Status().Handlers {
		if h.Name == "" {
			return h.GetFeatures().GetRecursiveReadOnlyMounts()
		}
	}
	return false
}

// HostIPs are the node's addresses.
func (k *kubelet) HostIPs() []string { return k.ips }

// RuntimeHandler finds the handler of a RuntimeClass, "" for none.
func (k *kubelet) RuntimeHandler(ctx context.Context, class *string) (string, error) {
	if class == nil || *class == "" {
		return "", nil
	}
	if k.api == nil {
		return "", errStandalone
	}
	return k.api.Handler(ctx, *class)
}

// PullSecrets reads the pod's pull secrets.
func (k *kubelet) PullSecrets(ctx context.Context, pod *corev1.Pod) (found []corev1.Secret, missing []string) {
	if k.api == nil {
		return nil, nil
	}
	return k.api.PullSecrets(ctx, pod)
}

// ConfigMap reads a ConfigMap that a pod refers to.
func (k *kubelet) ConfigMap(ctx context.Context, namespace, name string) (*corev1.ConfigMap, error) {
	if k.api == nil {
		return nil, errStandalone
	}
	return k.api.ConfigMap(ctx, namespace, name)
}

// Secret reads a Secret that a pod refers to.
func (k *kubelet) Secret(ctx context.Context, namespace, name string) (*corev1.Secret, error) {
	if k.api == nil {
		return nil, errStandalone
	}
	return k.api.Secret(ctx, namespace, name)
}

// Token makes a token for a projected volume.
func (k *kubelet) Token(ctx context.Context, pod *corev1.Pod, audience string, seconds int64) (string, error) {
	if k.api == nil {
		return "", errStandalone
	}
	return k.api.Token(ctx, pod, audience, seconds)
}

// Forget drops the tokens and certificates of a pod that ended.
func (k *kubelet) Forget(uid types.UID) {
	if k.api != nil {
		k.api.Forget(uid)
		k.issuer.Forget(uid)
	}
}

func (k *kubelet) claims() volume.Claims {
	if k.api == nil {
		return nil
	}
	return k.api
}

func (k *kubelet) bundles() volume.Bundles {
	if k.api == nil {
		return nil
	}
	return k.api
}

func (k *kubelet) certificates() volume.Certificates {
	if k.issuer == nil {
		return nil
	}
	return k.issuer
}

func (k *kubelet) servicesOf(namespace string) []*corev1.Service {
	if k.services == nil {
		return nil
	}
	return k.services.visible(namespace)
}

func (k *kubelet) dns() runconfig.DNSRules {
	return runconfig.DNSRules{ClusterDNS: k.cfg.ClusterDNS, ClusterDomain: k.cfg.ClusterDomain, HostResolv: hostResolv(*k.cfg.ResolverConfig)}
}

// event records what happened to a pod or one of its containers.
func (k *kubelet) event(pod *corev1.Pod, container, eventType, reason, message string) {
	k.log.Debug("event", zap.String("pod", pod.Namespace+"/"+pod.Name), zap.String("container", container), zap.String("reason", reason), zap.String("message", message))
	if k.recorder != nil {
		k.recorder.Event(podspec.Reference(pod, container), eventType, reason, message)
	}
	if eventType == corev1.EventTypeWarning {
		k.decided(pod, "warning", reason, message)
	}
}

// nodeEvent records what happened to the node; its reference carries the name as UID, as upstream's does.
func (k *kubelet) nodeEvent(eventType, reason, message string) {
	if k.recorder != nil {
		k.recorder.Event(&corev1.ObjectReference{APIVersion: "v1", Kind: "Node", Name: k.name, UID: types.UID(k.name)}, eventType, reason, message)
	}
}

func (k *kubelet) decided(pod *corev1.Pod, verdict, code, message string) {
	e := decision.Entry{Actor: "worker", Time: time.Now(), Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID, Generation: pod.Generation, Verdict: verdict}
	if code != "" {
		e.Reasons = []decision.Reason{{Subject: k.name, Code: code, Message: message}}
	}
	k.decisions.Record(e)
}

// facts collects what the Node's status is made of.
func (k *kubelet) facts(ctx context.Context) node.Facts {
	rt := k.runtime.LastVersion()
	st := k.health.Status()
	f := node.Facts{
		Name: k.name, IPs: k.ips, Machine: k.machine, Capacity: k.capacity, Allocatable: k.allocatable, KubeletVersion: version.Get().GitVersion,
		RuntimeVersion: rt.Name + "://" + rt.Version, Port: k.cfg.Port, MaxImages: int(*k.cfg.NodeStatusMaxImages), Handlers: st.Handlers,
		Features: st.Features, External: k.cfg.CloudProvider == "external", NotReady: k.health.Errors(), Now: time.Now(),
	}
	if images, err := k.runtime.Images(ctx); err == nil {
		f.Images = images
	}
	if err := k.relist.Healthy(f.Now); err != nil && len(f.NotReady) == 0 {
		f.NotReady = append(f.NotReady, fmt.Errorf("PLEG is not healthy: %w", err))
	}
	for _, c := range k.evictor.Conditions() {
		switch c {
		case string(corev1.NodeMemoryPressure):
			f.Memory = true
		case string(corev1.NodeDiskPressure):
			f.Disk = true
		case string(corev1.NodePIDPressure):
			f.PID = true
		}
	}
	return f
}

// podCIDR tells the runtime the node's pod range.
func (k *kubelet) podCIDR(ctx context.Context, cidr string) {
	if err := k.runtime.UpdatePodCIDR(ctx, cidr); err != nil {
		k.log.Warn("tell the runtime the pod CIDR", zap.Error(err))
	}
}

// serviceCache holds the cluster's services, of which only addresses and ports are kept.
type serviceCache struct{ inf cache.SharedIndexInformer }

func newServiceCache(c *kube.Client) *serviceCache {
	return &serviceCache{inf: kube.NewInformer[corev1.Service, corev1.ServiceList](c, corev1.SchemeGroupVersion.WithResource("services"), kube.InformerOptions{
		Transform: func(obj any) (any, error) {
			s, ok := obj.(*corev1.Service)
			if !ok {
				return obj, nil
			}
			out := &corev1.Service{}
			out.Name, out.Namespace, out.UID, out.ResourceVersion = s.Name, s.Namespace, s.UID, s.ResourceVersion
			out.Spec.ClusterIP, out.Spec.Ports = s.Spec.ClusterIP, s.Spec.Ports
			return out, nil
		},
	})}
}

// Run follows the services until ctx ends.
func (s *serviceCache) Run(ctx context.Context) error {
	s.inf.RunWithContext(ctx)
	return nil
}

// visible is the services of the namespace, and kubernetes of default.
func (s *serviceCache) visible(namespace string) []*corev1.Service {
	var out []*corev1.Service
	add := func(obj any) {
		if svc, ok := obj.(*corev1.Service); ok {
			out = append(out, svc)
		}
	}
	list, err := s.inf.GetIndexer().ByIndex(cache.NamespaceIndex, namespace)
	if err == nil {
		for _, obj := range list {
			add(obj)
		}
	}
	if namespace != "default" {
		if obj, ok, err := s.inf.GetIndexer().GetByKey("default/kubernetes"); err == nil && ok {
			add(obj)
		}
	}
	return out
}
