package admission

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	nodev1 "k8s.io/api/node/v1"
	resourcev1 "k8s.io/api/resource/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/sets"

	"flagship/apiserver/internal/authz"
)

// Readers is how the plugins see the cluster. What they return may be a little old, is shared and must not be changed.
// A missing object is a NotFound Status.
type Readers struct {
	Namespace       func(ctx context.Context, name string) (*corev1.Namespace, error)
	ServiceAccount  func(ctx context.Context, namespace, name string) (*corev1.ServiceAccount, error)
	Pod             func(ctx context.Context, namespace, name string) (*corev1.Pod, error)
	Pods            func(ctx context.Context, namespace string) ([]*corev1.Pod, error)
	Node            func(ctx context.Context, name string) (*corev1.Node, error)
	Claim           func(ctx context.Context, namespace, name string) (*corev1.PersistentVolumeClaim, error)
	Volume          func(ctx context.Context, name string) (*corev1.PersistentVolume, error)
	CSIDriver       func(ctx context.Context, name string) (*storagev1.CSIDriver, error)
	LimitRanges     func(ctx context.Context, namespace string) ([]*corev1.LimitRange, error)
	PriorityClass   func(ctx context.Context, name string) (*schedulingv1.PriorityClass, error)
	PriorityClasses func(ctx context.Context) ([]*schedulingv1.PriorityClass, error)
	RuntimeClass    func(ctx context.Context, name string) (*nodev1.RuntimeClass, error)
	StorageClasses  func(ctx context.Context) ([]*storagev1.StorageClass, error)
	IngressClasses  func(ctx context.Context) ([]*networkingv1.IngressClass, error)
	DeviceClasses   func(ctx context.Context) ([]*resourcev1.DeviceClass, error)
	ResourceClaims  func(ctx context.Context, namespace string) ([]*resourcev1.ResourceClaim, error)
	// Quotas lists a namespace's quotas; fresh ones must not be older than the call.
	Quotas func(ctx context.Context, namespace string, fresh bool) ([]*corev1.ResourceQuota, error)
	// UpdateQuotaStatus writes a quota's status if its resourceVersion still holds (else a Conflict Status) and returns
	// what was written.
	UpdateQuotaStatus func(ctx context.Context, q *corev1.ResourceQuota) (*corev1.ResourceQuota, error)
}

// Config says which plugins run and how.
type Config struct {
	Enable, Disable []string // --enable-admission-plugins, --disable-admission-plugins

	DefaultNotReadyTolerationSeconds    int64 // 300 upstream
	DefaultUnreachableTolerationSeconds int64 // 300 upstream

	// Files configures plugins.
	Files Files
	// Metrics observe what they take, nil for none.
	Metrics *Metrics
}

// Deps is what the plugins need.
type Deps struct {
	Readers    Readers
	Authorizer authz.Authorizer
	// Extra runs after the built-in plugins and before ResourceQuota, in this order: policies and webhooks.
	Extra []Plugin
	// CreateNamespace creates one.
	CreateNamespace func(ctx context.Context, ns *corev1.Namespace) error
	// ResourceOf is a kind's resource, and whether it has namespaces.
	ResourceOf func(gvk schema.GroupVersionKind) (gvr schema.GroupVersionResource, namespaced, ok bool)
	// QOS is a pod's class.
	QOS func(*corev1.Pod) corev1.PodQOSClass
	Now func() time.Time
	// Suffix returns n random characters that may end a name.
	Suffix func(n int) string
}

// entry is a plugin of the table below; on says whether it runs unless disabled.
type entry struct {
	on     bool
	plugin Plugin
}

// New returns the chain in upstream's order. An unknown name in Enable or Disable is an error.
func New(cfg Config, d Deps) (Chain, error) {
	table, err := plugins(cfg, d)
	if err != nil {
		return Chain{}, err
	}
	return choose(table, cfg)
}

// plugins are all that there are, in upstream's order.
func plugins(cfg Config, d Deps) ([]entry, error) {
	r := &d.Readers
	security, err := cfg.Files.podSecurity()
	if err != nil {
		return nil, err
	}
	selectors, err := cfg.Files.nodeSelectors()
	if err != nil {
		return nil, err
	}
	tolerations, err := cfg.Files.tolerations()
	if err != nil {
		return nil, err
	}
	limits, err := cfg.Files.eventLimits()
	if err != nil {
		return nil, err
	}
	limited, err := cfg.Files.limitedResources()
	if err != nil {
		return nil, err
	}
	images, err := cfg.Files.imagePolicy()
	if err != nil {
		return nil, err
	}
	ops := func(name string, ops ...Operation) operations { return operations{name, ops} }
	table := []entry{
		{false, &AlwaysAdmit{ops("AlwaysAdmit", Create, Update, Delete, Connect)}},
		{false, &NamespaceProvision{ops("NamespaceAutoProvision", Create), r.Namespace, d.CreateNamespace}},
		{true, &NamespaceLifecycle{ops("NamespaceLifecycle", Create, Update, Delete), r.Namespace}},
		{false, &NamespaceExists{ops("NamespaceExists", Create, Update, Delete), r.Namespace}},
		{false, &HardAntiAffinity{ops("LimitPodHardAntiAffinityTopology", Create, Update)}},
		{true, &LimitRanger{ops("LimitRanger", Create, Update), r.LimitRanges}},
		{true, &ServiceAccount{ops("ServiceAccount", Create, Update), r.ServiceAccount, d.Suffix}},
		{false, &NodeRestriction{ops("NodeRestriction", Create, Update, Delete), r, d.Authorizer}},
		{true, &TaintNodes{ops("TaintNodesByCondition", Create)}},
		{false, &AlwaysPullImages{ops("AlwaysPullImages", Create, Update)}},
		{false, &ImagePolicy{operations: ops("ImagePolicyWebhook", Create, Update), cfg: images}},
		{true, &PodSecurity{operations: ops("PodSecurity", Create, Update), namespace: r.Namespace, pods: r.Pods, now: d.Now, podSecurityConfig: security}},
		{false, &PodNodeSelector{ops("PodNodeSelector", Create), r.Namespace, selectors}},
		{true, &Priority{ops("Priority", Create, Update), r}},
		{true, &TolerationSeconds{ops("DefaultTolerationSeconds", Create, Update), cfg.DefaultNotReadyTolerationSeconds, cfg.DefaultUnreachableTolerationSeconds}},
		{false, &TolerationRestriction{ops("PodTolerationRestriction", Create, Update), r.Namespace, d.QOS, tolerations}},
		{false, &EventRateLimit{ops("EventRateLimit", Create, Update), limits}},
		{false, &ExtendedResourceToleration{ops("ExtendedResourceToleration", Create, Update)}},
		{true, &StorageClass{ops("DefaultStorageClass", Create), r.StorageClasses}},
		{true, &StorageProtection{ops("StorageObjectInUseProtection", Create)}},
		{true, &PodGroupProtection{ops("PodGroupProtection", Create)}},
		{false, &OwnerPermissions{ops("OwnerReferencesPermissionEnforcement", Create, Update), d.Authorizer, d.ResourceOf}},
		{true, &ClaimResize{ops("PersistentVolumeClaimResize", Update), r.StorageClasses}},
		{true, &RuntimeClass{ops("RuntimeClass", Create), r.RuntimeClass}},
		{true, &CertificateApproval{ops("CertificateApproval", Update), d.Authorizer}},
		{true, &CertificateSigning{ops("CertificateSigning", Update), d.Authorizer}},
		{true, &TrustBundleAttest{ops("ClusterTrustBundleAttest", Create, Update), d.Authorizer}},
		{true, &CertificateSubject{ops("CertificateSubjectRestriction", Create)}},
		{true, &IngressClass{ops("DefaultIngressClass", Create), r.IngressClasses}},
		{false, &DenyExternalIPs{ops("DenyServiceExternalIPs", Create, Update)}},
		{true, &TopologyLabels{ops("PodTopologyLabels", Create), r.Node}},
		{true, &NodeFeatures{ops("NodeDeclaredFeatureValidator", Update), r.Node}},
		{true, &PodResize{ops("PodResizeValidator", Update), r.Node}},
	}
	for _, p := range d.Extra {
		table = append(table, entry{true, p})
	}
	return append(table, entry{true, newQuota(ops("ResourceQuota", Create, Update), r, d.Now, limited)}, entry{false, &AlwaysDeny{ops("AlwaysDeny", Create, Update, Delete, Connect)}}), nil
}

// preparer is a plugin that needs something before it can run.
type preparer interface{ Prepare() error }

func choose(table []entry, cfg Config) (Chain, error) {
	known := func(name string) bool {
		return slices.ContainsFunc(table, func(e entry) bool { return e.plugin.Name() == name })
	}
	var errs []error
	for _, f := range []struct {
		flag  string
		names []string
	}{{"enable", cfg.Enable}, {"disable", cfg.Disable}} {
		for _, name := range f.names {
			if !known(name) {
				errs = append(errs, fmt.Errorf("%s-admission-plugins plugin %q is unknown", f.flag, name))
			}
		}
	}
	if both := sets.New(cfg.Enable...).Intersection(sets.New(cfg.Disable...)); len(both) > 0 {
		errs = append(errs, fmt.Errorf("%v in enable-admission-plugins and disable-admission-plugins overlapped", sets.List(both)))
	}
	if len(errs) > 0 {
		return Chain{}, errors.Join(errs...)
	}
	out := Chain{Metrics: cfg.Metrics}
	for _, e := range table {
		name := e.plugin.Name()
		if !slices.Contains(cfg.Enable, name) && (!e.on || slices.Contains(cfg.Disable, name)) {
			continue
		}
		if p, ok := e.plugin.(preparer); ok {
			if err := p.Prepare(); err != nil {
				return Chain{}, err
			}
		}
		out.Plugins = append(out.Plugins, e.plugin)
	}
	return out, nil
}
