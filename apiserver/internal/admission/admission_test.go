package admission

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	nodev1 "k8s.io/api/node/v1"
	resourcev1 "k8s.io/api/resource/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"

	"flagship/apiserver/internal/authn"
	"flagship/apiserver/internal/authz"
)

// cluster is what the plugins of a test see.
type cluster struct {
	namespaces map[string]*corev1.Namespace
	accounts   map[string]*corev1.ServiceAccount
	pods       []*corev1.Pod
	node       *corev1.Node
	limits     []*corev1.LimitRange
	priorities []*schedulingv1.PriorityClass
	runtimes   map[string]*nodev1.RuntimeClass
	storage    []*storagev1.StorageClass
	ingress    []*networkingv1.IngressClass
	quotas     []*corev1.ResourceQuota
	classes    []*resourcev1.DeviceClass
	claims     []*resourcev1.ResourceClaim
	conflicts  int
}

func find[T any](o *T, what, name string) (*T, error) {
	if o == nil {
		return nil, apierrors.NewNotFound(schema.GroupResource{Resource: what}, name)
	}
	return o, nil
}

func (c *cluster) readers() Readers {
	return Readers{
		Namespace: func(_ context.Context, n string) (*corev1.Namespace, error) {
			return find(c.namespaces[n], "namespaces", n)
		},
		ServiceAccount: func(_ context.Context, _, n string) (*corev1.ServiceAccount, error) {
			return find(c.accounts[n], "serviceaccounts", n)
		},
		Pod: func(_ context.Context, _, n string) (*corev1.Pod, error) {
			for _, p := range c.pods {
				if p.Name == n {
					return p, nil
				}
			}
			return find[corev1.Pod](nil, "pods", n)
		},
		Pods: func(context.Context, string) ([]*corev1.Pod, error) { return c.pods, nil },
		Node: func(_ context.Context, n string) (*corev1.Node, error) {
			if c.node != nil && c.node.Name != "" && c.node.Name != n {
				return find[corev1.Node](nil, "nodes", n)
			}
			return find(c.node, "nodes", n)
		},
		LimitRanges: func(context.Context, string) ([]*corev1.LimitRange, error) { return c.limits, nil },
		PriorityClass: func(_ context.Context, n string) (*schedulingv1.PriorityClass, error) {
			for _, p := range c.priorities {
				if p.Name == n {
					return p, nil
				}
			}
			return find[schedulingv1.PriorityClass](nil, "priorityclasses", n)
		},
		PriorityClasses: func(context.Context) ([]*schedulingv1.PriorityClass, error) { return c.priorities, nil },
		RuntimeClass: func(_ context.Context, n string) (*nodev1.RuntimeClass, error) {
			return find(c.runtimes[n], "runtimeclasses", n)
		},
		StorageClasses: func(context.Context) ([]*storagev1.StorageClass, error) { return c.storage, nil },
		IngressClasses: func(context.Context) ([]*networkingv1.IngressClass, error) { return c.ingress, nil },
		DeviceClasses:  func(context.Context) ([]*resourcev1.DeviceClass, error) { return c.classes, nil },
		ResourceClaims: func(context.Context, string) ([]*resourcev1.ResourceClaim, error) { return c.claims, nil },
		Quotas:         func(context.Context, string, bool) ([]*corev1.ResourceQuota, error) { return c.quotas, nil },
		UpdateQuotaStatus: func(_ context.Context, q *corev1.ResourceQuota) (*corev1.ResourceQuota, error) {
			if c.conflicts > 0 {
				c.conflicts--
				return nil, apierrors.NewConflict(corev1.Resource("resourcequotas"), q.Name, nil)
			}
			for i := range c.quotas {
				if c.quotas[i].Name == q.Name {
					c.quotas[i] = q
				}
			}
			return q, nil
		},
	}
}

func testChain(t *testing.T, c *cluster, plugins ...string) Chain {
	t.Helper()
	full, err := New(Config{}, Deps{})
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{Enable: plugins, DefaultNotReadyTolerationSeconds: 300, DefaultUnreachableTolerationSeconds: 300}
	for _, name := range full.Names() {
		if !strings.Contains(","+strings.Join(plugins, ",")+",", ","+name+",") {
			cfg.Disable = append(cfg.Disable, name)
		}
	}
	chain, err := New(cfg, Deps{Readers: c.readers(), Authorizer: authz.Always(authz.NoOpinion), Now: time.Now, Suffix: func(n int) string { return strings.Repeat("x", n) }})
	if err != nil {
		t.Fatal(err)
	}
	return chain
}

func run(t *testing.T, chain Chain, a *Attributes) error {
	t.Helper()
	if err := chain.Mutate(t.Context(), a); err != nil {
		return err
	}
	return chain.Validate(t.Context(), a)
}

func parse[T any](t *testing.T, text string) *T {
	t.Helper()
	out := new(T)
	if err := yaml.UnmarshalStrict([]byte(text), out); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return out
}

func create(o runtime.Object, group, resource, kind string) *Attributes {
	return &Attributes{
		Operation: Create, Namespace: "ns", Object: o, User: &authn.Identity{Name: "jane"},
		Resource: schema.GroupVersionResource{Group: group, Version: "v1", Resource: resource},
		Kind:     schema.GroupVersionKind{Group: group, Version: "v1", Kind: kind},
	}
}

func createPod(t *testing.T, spec string) *Attributes {
	t.Helper()
	return create(parse[corev1.Pod](t, "metadata: {name: p, namespace: ns}\nspec: "+spec), "", "pods", "Pod")
}

func wantError(t *testing.T, name string, err error, want string) {
	t.Helper()
	if (err == nil) != (want == "") || err != nil && err.Error() != want {
		t.Errorf("%s:\n got %v\nwant %s", name, err, want)
	}
}

func TestNamespaceLifecycle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &cluster{namespaces: map[string]*corev1.Namespace{"ns": {}, "old": {Status: corev1.NamespaceStatus{Phase: corev1.NamespaceTerminating}}}}
		chain := testChain(t, c, "NamespaceLifecycle")
		a := createPod(t, "{}")
		wantError(t, "active", run(t, chain, a), "")
		a.Namespace = "old"
		err := run(t, chain, a)
		wantError(t, "terminating", err, `pods "p" is forbidden: unable to create new content in namespace old because it is being terminated`)
		if !apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
			t.Error("no cause")
		}
		a.Namespace = "none"
		wantError(t, "missing", run(t, chain, a), `namespaces "none" not found`)
		del := create(nil, "", "namespaces", "Namespace")
		del.Operation, del.Name, del.Namespace = Delete, "default", "default"
		wantError(t, "immortal", run(t, chain, del), `namespaces "default" is forbidden: this namespace may not be deleted`)
	})
}

func TestServiceAccount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &cluster{accounts: map[string]*corev1.ServiceAccount{
			"default": {ImagePullSecrets: []corev1.LocalObjectReference{{Name: "pull"}}},
		}}
		chain := testChain(t, c, "ServiceAccount")
		a := createPod(t, `{containers: [{name: a}, {name: b, volumeMounts: [{name: x, mountPath: /var/run/secrets/kubernetes.io/serviceaccount}]}]}`)
		wantError(t, "default", run(t, chain, a), "")
		pod := a.Object.(*corev1.Pod)
		want := parse[corev1.PodSpec](t, `
serviceAccountName: default
serviceAccount: default
imagePullSecrets: [{name: pull}]
containers:
- {name: a, volumeMounts: [{name: kube-api-access-xxxxx, readOnly: true, mountPath: /var/run/secrets/kubernetes.io/serviceaccount}]}
- {name: b, volumeMounts: [{name: x, mountPath: /var/run/secrets/kubernetes.io/serviceaccount}]}
volumes:
- name: kube-api-access-xxxxx
  projected:
    defaultMode: 420
    sources:
    - serviceAccountToken: {path: token, expirationSeconds: 3607}
    - configMap: {name: kube-root-ca.crt, items: [{key: ca.crt, path: ca.crt}]}
    - downwardAPI: {items: [{path: namespace, fieldRef: {apiVersion: v1, fieldPath: metadata.namespace}}]}
`)
		if d := cmp.Diff(*want, pod.Spec); d != "" {
			t.Error(d)
		}
		wantError(t, "missing", run(t, chain, createPod(t, "{serviceAccountName: nobody}")),
			`pods "p" is forbidden: error looking up service account ns/nobody: serviceaccount "nobody" not found`)
		a = createPod(t, "{serviceAccountName: x}")
		a.Object.(*corev1.Pod).Annotations = map[string]string{corev1.MirrorPodAnnotationKey: "y"}
		wantError(t, "mirror", run(t, chain, a), `pods "p" is forbidden: a mirror pod may not reference service accounts`)
	})
}

func TestLimitRanger(t *testing.T) {
	c := &cluster{limits: []*corev1.LimitRange{parse[corev1.LimitRange](t, `
spec:
  limits:
  - {type: Container, default: {cpu: 500m}, defaultRequest: {cpu: 100m, memory: 64Mi}, max: {cpu: "1"}, min: {memory: 32Mi}}
  - {type: Pod, max: {cpu: "1"}}
  - {type: PersistentVolumeClaim, max: {storage: 1Gi}}`)}}
	chain := testChain(t, c, "LimitRanger")
	a := createPod(t, "{containers: [{name: c}]}")
	wantError(t, "defaults", run(t, chain, a), "")
	pod := a.Object.(*corev1.Pod)
	if got := pod.Annotations[limitRangerAnnotation]; got != "LimitRanger plugin set: cpu, memory request for container c; cpu limit for container c" {
		t.Error(got)
	}
	if pod.Spec.Containers[0].Resources.Limits.Cpu().String() != "500m" {
		t.Error(pod.Spec.Containers[0].Resources)
	}
	wantError(t, "too much", run(t, chain, createPod(t, `{containers: [{name: c, resources: {limits: {cpu: "2"}}}]}`)),
		`pods "p" is forbidden: [maximum cpu usage per Container is 1, but limit is 2, maximum cpu usage per Pod is 1, but limit is 2]`)
	wantError(t, "too little", run(t, chain, createPod(t, `{containers: [{name: c, resources: {requests: {memory: 1Mi}}}]}`)),
		`pods "p" is forbidden: minimum memory usage per Container is 32Mi, but request is 1Mi`)
	pvc := create(parse[corev1.PersistentVolumeClaim](t, "metadata: {name: d}\nspec: {resources: {requests: {storage: 2Gi}}}"), "", "persistentvolumeclaims", "PersistentVolumeClaim")
	wantError(t, "claim", run(t, chain, pvc), `persistentvolumeclaims "d" is forbidden: maximum storage usage per PersistentVolumeClaim is 1Gi, but request is 2Gi`)
}

func TestPriority(t *testing.T) {
	c := &cluster{priorities: []*schedulingv1.PriorityClass{
		{ObjectMeta: metav1.ObjectMeta{Name: "high"}, Value: 1000},
		{ObjectMeta: metav1.ObjectMeta{Name: "usual"}, Value: 5, GlobalDefault: true},
	}}
	chain := testChain(t, c, "Priority")
	for name, tc := range map[string]struct {
		spec, want string
		value      int32
	}{
		"default": {"{}", "", 5},
		"named":   {"{priorityClassName: high}", "", 1000},
		"unknown": {"{priorityClassName: none}", `pods "p" is forbidden: no PriorityClass with name none was found`, 0},
		"forged":  {"{priority: 7, priorityClassName: high}", `pods "p" is forbidden: the integer value of priority (7) must not be provided in pod spec; priority admission controller computed 1000 from the given PriorityClass name`, 0},
	} {
		a := createPod(t, tc.spec)
		wantError(t, name, run(t, chain, a), tc.want)
		if p := a.Object.(*corev1.Pod).Spec.Priority; tc.want == "" && *p != tc.value {
			t.Errorf("%s: %d", name, *p)
		}
	}
	pc := create(&schedulingv1.PriorityClass{ObjectMeta: metav1.ObjectMeta{Name: "second"}, GlobalDefault: true}, "scheduling.k8s.io", "priorityclasses", "PriorityClass")
	wantError(t, "second default", run(t, chain, pc), `priorityclasses.scheduling.k8s.io "second" is forbidden: PriorityClass usual is already marked as default. Only one default can exist`)
}

func TestPodDefaults(t *testing.T) {
	c := &cluster{
		runtimes: map[string]*nodev1.RuntimeClass{"gvisor": parse[nodev1.RuntimeClass](t, `
overhead: {podFixed: {cpu: 250m}}
scheduling: {nodeSelector: {sandbox: gvisor}, tolerations: [{key: sandbox, operator: Exists}]}`)},
		node: &corev1.Node{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{corev1.LabelTopologyZone: "z", "other": "x"}}},
	}
	chain := testChain(t, c, "DefaultTolerationSeconds", "RuntimeClass", "PodTopologyLabels")
	a := createPod(t, "{runtimeClassName: gvisor, nodeName: n, tolerations: [{key: node.kubernetes.io/not-ready, operator: Exists}]}")
	wantError(t, "pod", run(t, chain, a), "")
	pod := a.Object.(*corev1.Pod)
	want := parse[corev1.PodSpec](t, `
runtimeClassName: gvisor
nodeName: n
nodeSelector: {sandbox: gvisor}
overhead: {cpu: 250m}
tolerations:
- {key: node.kubernetes.io/not-ready, operator: Exists}
- {key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute, tolerationSeconds: 300}
- {key: sandbox, operator: Exists}`)
	if d := cmp.Diff(*want, pod.Spec) + cmp.Diff(map[string]string{corev1.LabelTopologyZone: "z"}, pod.Labels); d != "" {
		t.Error(d)
	}
	wantError(t, "unknown runtime", run(t, chain, createPod(t, "{runtimeClassName: none}")), `pods "p" is forbidden: pod rejected: RuntimeClass "none" not found`)
	wantError(t, "overhead", run(t, chain, createPod(t, "{overhead: {cpu: 1}}")), `pods "p" is forbidden: pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead`)

	n := create(&corev1.Node{}, "", "nodes", "Node")
	wantError(t, "node", run(t, testChain(t, c, "TaintNodesByCondition"), n), "")
	if d := cmp.Diff([]corev1.Taint{{Key: corev1.TaintNodeNotReady, Effect: corev1.TaintEffectNoSchedule}}, n.Object.(*corev1.Node).Spec.Taints); d != "" {
		t.Error(d)
	}
}

func TestStorageAndIngress(t *testing.T) {
	at := func(s int64) metav1.Time { return metav1.Unix(s, 0) }
	isDefault := map[string]string{"storageclass.kubernetes.io/is-default-class": "true", networkingv1.AnnotationIsDefaultIngressClass: "true"}
	c := &cluster{
		storage: []*storagev1.StorageClass{
			{ObjectMeta: metav1.ObjectMeta{Name: "a", CreationTimestamp: at(1), Annotations: isDefault}},
			{ObjectMeta: metav1.ObjectMeta{Name: "b", CreationTimestamp: at(2), Annotations: isDefault}, AllowVolumeExpansion: new(true)},
		},
		ingress: []*networkingv1.IngressClass{{ObjectMeta: metav1.ObjectMeta{Name: "nginx", Annotations: isDefault}}},
	}
	chain := testChain(t, c, "DefaultStorageClass", "StorageObjectInUseProtection", "PersistentVolumeClaimResize", "DefaultIngressClass")
	a := create(&corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Name: "d"}}, "", "persistentvolumeclaims", "PersistentVolumeClaim")
	wantError(t, "claim", run(t, chain, a), "")
	pvc := a.Object.(*corev1.PersistentVolumeClaim)
	if *pvc.Spec.StorageClassName != "b" || pvc.Finalizers[0] != "kubernetes.io/pvc-protection" {
		t.Errorf("%+v", pvc)
	}
	grown := pvc.DeepCopy()
	grown.Spec.Resources.Requests = corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("2Gi")}
	a.Operation, a.Object, a.OldObject = Update, grown, pvc
	wantError(t, "unbound", run(t, chain, a), `persistentvolumeclaims "d" is forbidden: Only bound persistent volume claims can be expanded`)
	pvc.Status.Phase = corev1.ClaimBound
	wantError(t, "bound", run(t, chain, a), "")
	pvc.Spec.StorageClassName, grown.Spec.StorageClassName = new("a"), new("a")
	wantError(t, "class", run(t, chain, a), `persistentvolumeclaims "d" is forbidden: only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize`)

	ing := create(&networkingv1.Ingress{}, "networking.k8s.io", "ingresses", "Ingress")
	wantError(t, "ingress", run(t, chain, ing), "")
	if *ing.Object.(*networkingv1.Ingress).Spec.IngressClassName != "nginx" {
		t.Error("no ingress class")
	}
}

func TestPodSecurity(t *testing.T) {
	labels := map[string]string{"pod-security.kubernetes.io/enforce": "baseline", "pod-security.kubernetes.io/warn": "restricted"}
	c := &cluster{namespaces: map[string]*corev1.Namespace{"ns": {ObjectMeta: metav1.ObjectMeta{Labels: labels}}}}
	chain := testChain(t, c, "PodSecurity")
	wantError(t, "privileged", run(t, chain, createPod(t, "{containers: [{name: c, securityContext: {privileged: true}}]}")),
		`pods "p" is forbidden: violates PodSecurity "baseline:latest": privileged (container "c" must not set securityContext.privileged=true)`)
	a := createPod(t, "{containers: [{name: c}]}")
	wantError(t, "plain", run(t, chain, a), "")
	if len(a.Warnings) != 1 || !strings.HasPrefix(a.Warnings[0], `would violate PodSecurity "restricted:latest": allowPrivilegeEscalation != false`) {
		t.Error(a.Warnings)
	}
	if a.Annotations["pod-security.kubernetes.io/enforce-policy"] != "baseline:latest" {
		t.Error(a.Annotations)
	}
	c.pods = []*corev1.Pod{parse[corev1.Pod](t, "metadata: {name: old}\nspec: {hostNetwork: true, containers: [{name: c}]}")}
	ns := create(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "ns", Labels: labels}}, "", "namespaces", "Namespace")
	ns.Operation, ns.OldObject = Update, &corev1.Namespace{}
	wantError(t, "raise", run(t, chain, ns), "")
	want := []string{`existing pods in namespace "ns" violate the new PodSecurity enforce level "baseline:latest"`, "old: host namespaces"}
	if d := cmp.Diff(want, ns.Warnings); d != "" {
		t.Error(d)
	}
	ns.Operation = Create
	ns.Object.(*corev1.Namespace).Labels = map[string]string{"pod-security.kubernetes.io/enforce": "tight"}
	if err := run(t, chain, ns); !apierrors.IsInvalid(err) {
		t.Error(err)
	}
}

func TestQuota(t *testing.T) {
	quota := func() *cluster {
		return &cluster{quotas: []*corev1.ResourceQuota{parse[corev1.ResourceQuota](t, `
metadata: {name: q, namespace: ns}
status:
  hard: {pods: "2", requests.cpu: "1", count/deployments.apps: "1", services.nodeports: "1"}
  used: {pods: "1", requests.cpu: 500m, count/deployments.apps: "1", services.nodeports: "0"}`)}}
	}
	c := quota()
	c.conflicts = 2
	chain := testChain(t, c, "ResourceQuota")
	small := `{containers: [{name: c, resources: {requests: {cpu: 250m}}}]}`
	wantError(t, "fits", run(t, chain, createPod(t, small)), "")
	used := c.quotas[0].Status.Used
	if used.Pods().String() != "2" || used.Name("requests.cpu", resource.DecimalSI).String() != "750m" {
		t.Errorf("used %v", used)
	}
	wantError(t, "exceeds", run(t, chain, createPod(t, small)), `pods "p" is forbidden: exceeded quota: q, requested: pods=1, used: pods=2, limited: pods=2`)

	c = quota()
	chain = testChain(t, c, "ResourceQuota")
	wantError(t, "unstated", run(t, chain, createPod(t, `{containers: [{name: c}, {name: d}]}`)), `pods "p" is forbidden: failed quota: q: must specify requests.cpu for: c,d`)
	wantError(t, "count", run(t, chain, create(&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "d"}}, "apps", "deployments", "Deployment")),
		`deployments.apps "d" is forbidden: exceeded quota: q, requested: count/deployments.apps=1, used: count/deployments.apps=1, limited: count/deployments.apps=1`)
	svc := create(parse[corev1.Service](t, "metadata: {name: s}\nspec: {type: NodePort, ports: [{port: 1}, {port: 2}]}"), "", "services", "Service")
	wantError(t, "node ports", run(t, chain, svc), `services "s" is forbidden: exceeded quota: q, requested: services.nodeports=2, used: services.nodeports=0, limited: services.nodeports=1`)
	dry := createPod(t, small)
	dry.DryRun = true
	wantError(t, "dry run", run(t, chain, dry), "")
	if c.quotas[0].Status.Used.Pods().String() != "1" {
		t.Error("a dry run was charged")
	}
	delete(c.quotas[0].Status.Used, "requests.cpu")
	wantError(t, "unknown", run(t, chain, createPod(t, small)), `pods "p" is forbidden: status unknown for quota: q, resources: pods,requests.cpu`)
	c.quotas[0].Spec.Scopes = []corev1.ResourceQuotaScope{corev1.ResourceQuotaScopeTerminating}
	wantError(t, "scope", run(t, chain, createPod(t, small)), "")
}

func TestNodeRestriction(t *testing.T) {
	c := &cluster{
		pods: []*corev1.Pod{{ObjectMeta: metav1.ObjectMeta{Name: "mine"}, Spec: corev1.PodSpec{NodeName: "n1"}}, {ObjectMeta: metav1.ObjectMeta{Name: "theirs"}}},
		node: &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1", UID: "u"}},
	}
	chain := testChain(t, c, "NodeRestriction")
	kubelet := &authn.Identity{Name: "system:node:n1", Groups: []string{"system:nodes"}}
	do := func(a *Attributes) error { a.User = kubelet; return run(t, chain, a) }
	mirror := createPod(t, "{nodeName: n1}")
	wantError(t, "no mirror", do(mirror), `pods "p" is forbidden: pod does not have "kubernetes.io/config.mirror" annotation, node "n1" can only create mirror pods`)
	pod := mirror.Object.(*corev1.Pod)
	pod.Annotations = map[string]string{corev1.MirrorPodAnnotationKey: "x"}
	pod.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: "n1", UID: "u", Controller: new(true)}}
	wantError(t, "mirror", do(mirror), "")
	pod.Spec.Volumes = []corev1.Volume{{VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "s"}}}}
	wantError(t, "mirror with secret", do(mirror), `pods "p" is forbidden: node "n1" can not create pods that reference secrets`)
	for name, want := range map[string]string{"mine": "", "theirs": `pods "theirs" is forbidden: node "n1" can only delete pods with spec.nodeName set to itself`} {
		a := create(nil, "", "pods", "Pod")
		a.Operation, a.Name = Delete, name
		wantError(t, "delete "+name, do(a), want)
	}
	n := create(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1", Labels: map[string]string{
		"kubernetes.io/hostname": "n1", "node.kubernetes.io/x": "y", "foo.kubernetes.io/bar": "z", "node-restriction.kubernetes.io/a": "b", "mine": "c",
	}}}, "", "nodes", "Node")
	wantError(t, "labels", do(n), `nodes "n1" is forbidden: node "n1" is not allowed to set the following labels: foo.kubernetes.io/bar, node-restriction.kubernetes.io/a`)
	n.Name = "n2"
	wantError(t, "other node", do(n), `nodes "n2" is forbidden: node "n1" is not allowed to modify node "n2"`)
}

func TestNodeRestrictionOfPodCertificates(t *testing.T) {
	c := &cluster{
		pods:     []*corev1.Pod{parse[corev1.Pod](t, "metadata: {name: mine, uid: pu}\nspec: {nodeName: n1, serviceAccountName: sa, volumes: [{name: v, projected: {sources: [{podCertificate: {signerName: a.b/c}}]}}]}")},
		node:     &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1", UID: "nu"}},
		accounts: map[string]*corev1.ServiceAccount{"sa": {ObjectMeta: metav1.ObjectMeta{Name: "sa", UID: "su"}}},
	}
	chain := testChain(t, c, "NodeRestriction")
	const forbidden = `podcertificaterequests.certificates.k8s.io "r" is forbidden: `
	for name, tc := range map[string]struct {
		change func(s *certificatesv1.PodCertificateRequestSpec)
		want   string
	}{
		"its own pod": {func(*certificatesv1.PodCertificateRequestSpec) {}, ""},
		"another node": {
			func(s *certificatesv1.PodCertificateRequestSpec) { s.NodeName = "n2" },
			forbidden + `PodCertificateRequest.Spec.NodeName="n2", which is not the requesting node "n1"`,
		},
		"an earlier node": {
			func(s *certificatesv1.PodCertificateRequestSpec) { s.NodeUID = "x" },
			`PodCertificateRequest for pod "ns/mine" names node UID "x", inconsistent with the running node ("nu")`,
		},
		"an earlier pod": {
			func(s *certificatesv1.PodCertificateRequestSpec) { s.PodUID = "x" },
			`PodCertificateRequest for pod "ns/mine" contains pod UID ("x") which differs from running pod "pu"`,
		},
		"no pod": {
			func(s *certificatesv1.PodCertificateRequestSpec) { s.PodName = "x" },
			`while retrieving pod "ns/x" named in the PodCertificateRequest: pods "x" not found`,
		},
		"another account": {
			func(s *certificatesv1.PodCertificateRequestSpec) { s.ServiceAccountName = "x" },
			forbidden + `PodCertificateRequest for pod "ns/mine" contains serviceAccountName ("x") that differs from running pod ("sa")`,
		},
		"an earlier account": {
			func(s *certificatesv1.PodCertificateRequestSpec) { s.ServiceAccountUID = "x" },
			`PodCertificateRequest for pod "ns/mine" names service account UID "x", which differs from the running service account ("su")`,
		},
		"another signer": {
			func(s *certificatesv1.PodCertificateRequestSpec) { s.SignerName = "a.b/d" },
			forbidden + `pod "ns/mine" does not mount a podCertificate projected volume for signer "a.b/d"`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := &certificatesv1.PodCertificateRequest{
				ObjectMeta: metav1.ObjectMeta{Name: "r"},
				Spec: certificatesv1.PodCertificateRequestSpec{
					SignerName: "a.b/c", PodName: "mine", PodUID: "pu", ServiceAccountName: "sa", ServiceAccountUID: "su", NodeName: "n1", NodeUID: "nu",
				},
			}
			tc.change(&r.Spec)
			a := create(r, "certificates.k8s.io", "podcertificaterequests", "PodCertificateRequest")
			a.User = &authn.Identity{Name: "system:node:n1", Groups: []string{"system:nodes"}}
			wantError(t, name, run(t, chain, a), tc.want)
		})
	}
}
