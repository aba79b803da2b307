package authz

import (
	"context"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"flagship/apiserver/internal/authn"
)

func defaultRBAC() *RBAC {
	r := &RBAC{}
	for _, o := range Defaults() {
		r.Set(o)
	}
	r.Set(role("dev", "reader", on("get list", "core", "pods pods/log"), named("get", "core", "secrets", "s1")))
	r.Set(bind("dev", "readers", "Role/reader", "user:jane sa:ops/bot"))
	r.Set(bind("dev", "editors", "ClusterRole/view-x", "user:joe"))
	return r
}

func ask(user, verb, ns, resource, name string, groups ...string) Attributes {
	a := Attributes{User: &authn.Identity{Name: user, Groups: groups}, Verb: verb, Namespace: ns, Name: name, ResourceRequest: true}
	if verb, path, ok := strings.Cut(verb, " /"); ok {
		a.Verb, a.Path, a.ResourceRequest = verb, "/"+path, false
		return a
	}
	a.Resource, a.Subresource, _ = strings.Cut(resource, "/")
	a.Resource, a.APIGroup, _ = strings.Cut(a.Resource, ".")
	return a
}

func TestRBAC(t *testing.T) {
	r := defaultRBAC()
	for name, tc := range map[string]struct {
		attrs  Attributes
		want   Decision
		reason string
	}{
		"masters":           {ask("admin", "delete", "", "nodes", "n", "system:masters"), Allow, `RBAC: allowed by ClusterRoleBinding "cluster-admin" of ClusterRole "cluster-admin" to Group "system:masters"`},
		"user":              {ask("jane", "get", "dev", "pods", "p"), Allow, `RBAC: allowed by RoleBinding "readers/dev" of Role "reader" to User "jane"`},
		"subresource":       {ask("jane", "get", "dev", "pods/log", "p"), Allow, `RBAC: allowed by RoleBinding "readers/dev" of Role "reader" to User "jane"`},
		"other subresource": {ask("jane", "get", "dev", "pods/exec", "p"), NoOpinion, ""},
		"other namespace":   {ask("jane", "get", "prod", "pods", "p"), NoOpinion, ""},
		"named":             {ask("jane", "get", "dev", "secrets", "s1"), Allow, `RBAC: allowed by RoleBinding "readers/dev" of Role "reader" to User "jane"`},
		"not named":         {ask("jane", "get", "dev", "secrets", "s2"), NoOpinion, ""},
		"service account":   {ask("system:serviceaccount:ops:bot", "list", "dev", "pods", ""), Allow, `RBAC: allowed by RoleBinding "readers/dev" of Role "reader" to ServiceAccount "bot/ops"`},
		"missing role":      {ask("joe", "get", "dev", "pods", "p"), NoOpinion, `RBAC: clusterrole.rbac.authorization.k8s.io "view-x" not found`},
		"path":              {ask("x", "get /api/v1", "", "", "", "system:authenticated"), Allow, `RBAC: allowed by ClusterRoleBinding "system:discovery" of ClusterRole "system:discovery" to Group "system:authenticated"`},
		"anonymous path":    {ask("system:anonymous", "get /api", "", "", "", "system:unauthenticated"), NoOpinion, ""},
		"scheduler":         {ask("system:kube-scheduler", "create", "default", "pods/binding", "p"), Allow, `RBAC: allowed by ClusterRoleBinding "system:kube-scheduler" of ClusterRole "system:kube-scheduler" to User "system:kube-scheduler"`},
		"scale":             {ask("system:serviceaccount:kube-system:horizontal-pod-autoscaler", "update", "d", "deployments.apps/scale", "x"), Allow, `RBAC: allowed by ClusterRoleBinding "system:controller:horizontal-pod-autoscaler" of ClusterRole "system:controller:horizontal-pod-autoscaler" to ServiceAccount "horizontal-pod-autoscaler/kube-system"`},
	} {
		d, reason, err := r.Authorize(t.Context(), tc.attrs)
		if d != tc.want || reason != tc.reason || err != nil {
			t.Errorf("%s: %v %q %v", name, d, reason, err)
		}
	}
	r.Delete(bind("dev", "readers", "Role/reader", ""))
	if d, _, _ := r.Authorize(t.Context(), ask("jane", "get", "dev", "pods", "p")); d != NoOpinion {
		t.Error("a deleted binding allows")
	}
}

func TestForbidden(t *testing.T) {
	err := Forbidden(ask("jane", "list", "dev", "deployments.apps", ""), "")
	want := `deployments.apps is forbidden: User "jane" cannot list resource "deployments" in API group "apps" in the namespace "dev"`
	if err.Error() != want {
		t.Error(err)
	}
	if err := Forbidden(ask("system:anonymous", "get /api", "", "", ""), ""); err.Error() != `forbidden: User "system:anonymous" cannot get path "/api"` {
		t.Error(err)
	}
}

func TestEscalation(t *testing.T) {
	r := defaultRBAC()
	jane := &authn.Identity{Name: "jane", Groups: []string{"system:authenticated"}}
	for name, tc := range map[string]struct {
		obj  runtime.Object
		want string
	}{
		"held": {role("dev", "a", on("get", "core", "pods")), ""},
		"not held": {role("dev", "a", on("get delete", "core", "pods nodes")), `roles.rbac.authorization.k8s.io "a" is forbidden: ` +
			`user "jane" (groups=["system:authenticated"]) is attempting to grant RBAC permissions not currently held:` + "\n" +
			`{APIGroups:[""], Resources:["nodes"], Verbs:["get" "delete"]}` + "\n" + `{APIGroups:[""], Resources:["pods"], Verbs:["delete"]}`},
		"bind held":     {bind("dev", "b", "Role/reader", "user:x"), ""},
		"bind not held": {bindCluster("cluster-admin", "user:jane"), "is attempting to grant RBAC permissions not currently held"},
	} {
		err := r.CheckEscalation(t.Context(), r, jane, tc.obj)
		if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestNode(t *testing.T) {
	g := &Graph{}
	g.SetPod(&corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p", UID: "1"},
		Spec: corev1.PodSpec{
			NodeName: "n1", ServiceAccountName: "sa",
			Containers: []corev1.Container{{EnvFrom: []corev1.EnvFromSource{{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "cm"}}}}}},
			Volumes: []corev1.Volume{
				{VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "s"}}},
				{VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "c"}}},
			},
		},
	})
	pv := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "pv"}}
	pv.Spec.ClaimRef = &corev1.ObjectReference{Namespace: "ns", Name: "c"}
	pv.Spec.CSI = &corev1.CSIPersistentVolumeSource{NodeStageSecretRef: &corev1.SecretReference{Namespace: "vault", Name: "stage"}}
	g.SetVolume(pv)
	g.SetVolumeAttachment("va", "n1")
	n := NewNode(g)
	as := func(node, verb, ns, resource, name string) Attributes {
		return ask("system:node:"+node, verb, ns, resource, name, "system:nodes")
	}
	mine := as("n1", "list", "", "pods", "")
	mine.Fields = fields.OneTermEqualSelector("spec.nodeName", "n1").Requirements()
	for name, tc := range map[string]struct {
		attrs  Attributes
		want   Decision
		reason string
	}{
		"secret":          {as("n1", "get", "ns", "secrets", "s"), Allow, ""},
		"foreign secret":  {as("n2", "get", "ns", "secrets", "s"), NoOpinion, "no relationship found between node 'n2' and this object"},
		"volume's secret": {as("n1", "get", "vault", "secrets", "stage"), Allow, ""},
		"all secrets":     {as("n1", "list", "ns", "secrets", ""), NoOpinion, "No Object name found"},
		"config map":      {as("n1", "watch", "ns", "configmaps", "cm"), Allow, ""},
		"claim":           {as("n1", "get", "ns", "persistentvolumeclaims", "c"), Allow, ""},
		"volume":          {as("n1", "get", "", "persistentvolumes", "pv"), Allow, ""},
		"attachment":      {as("n1", "get", "", "volumeattachments.storage.k8s.io", "va"), Allow, ""},
		"token":           {as("n1", "create", "ns", "serviceaccounts/token", "sa"), Allow, ""},
		"foreign token":   {as("n1", "create", "ns", "serviceaccounts/token", "x"), NoOpinion, "no relationship found between node 'n1' and this object"},
		"lease":           {as("n1", "update", "kube-node-lease", "leases.coordination.k8s.io", "n1"), Allow, ""},
		"foreign lease":   {as("n1", "update", "kube-node-lease", "leases.coordination.k8s.io", "n2"), NoOpinion, "can only access node lease with the same name as the requesting node"},
		"own node":        {as("n1", "patch", "", "nodes/status", "n1"), Allow, ""},
		"read node":       {as("n1", "get", "", "nodes", "n2"), NoOpinion, "node 'n1' cannot read 'n2', only its own Node object"},
		"pods":            {mine, Allow, ""},
		"all pods":        {as("n1", "list", "", "pods", ""), NoOpinion, "can only list/watch pods with spec.nodeName field selector"},
		"services":        {as("n1", "list", "", "services", ""), Allow, ""},
		"deployments":     {as("n1", "list", "", "deployments.apps", ""), NoOpinion, ""},
		"not a node":      {ask("jane", "get", "ns", "secrets", "s"), NoOpinion, ""},
	} {
		d, reason, err := n.Authorize(t.Context(), tc.attrs)
		if d != tc.want || reason != tc.reason || err != nil {
			t.Errorf("%s: %v %q %v", name, d, reason, err)
		}
	}
	g.DeletePod("ns", "p")
	if d, _, _ := n.Authorize(t.Context(), as("n1", "get", "vault", "secrets", "stage")); d != NoOpinion || len(g.nodes) != 0 {
		t.Error("a deleted pod leaves rights behind")
	}
}

// memory is a Store.
type memory map[string]runtime.Object

func key(o runtime.Object) string {
	m := o.(metav1.Object)
	return typeName(o) + "/" + m.GetNamespace() + "/" + m.GetName()
}

func typeName(o runtime.Object) string {
	switch o.(type) {
	case *rbacv1.ClusterRole:
		return "ClusterRole"
	case *rbacv1.Role:
		return "Role"
	case *rbacv1.ClusterRoleBinding:
		return "ClusterRoleBinding"
	}
	return "RoleBinding"
}

func (m memory) Get(_ context.Context, into runtime.Object) error {
	have, ok := m[key(into)]
	if !ok {
		return apierrors.NewNotFound(schema.GroupResource{}, key(into))
	}
	switch o := have.(type) {
	case *rbacv1.ClusterRole:
		o.DeepCopyInto(into.(*rbacv1.ClusterRole))
	case *rbacv1.Role:
		o.DeepCopyInto(into.(*rbacv1.Role))
	case *rbacv1.ClusterRoleBinding:
		o.DeepCopyInto(into.(*rbacv1.ClusterRoleBinding))
	case *rbacv1.RoleBinding:
		o.DeepCopyInto(into.(*rbacv1.RoleBinding))
	}
	return nil
}
func (m memory) Create(_ context.Context, o runtime.Object) error { m[key(o)] = o; return nil }
func (m memory) Update(_ context.Context, o runtime.Object) error { m[key(o)] = o; return nil }
func (m memory) Delete(_ context.Context, o runtime.Object) error { delete(m, key(o)); return nil }

// guarded is a memory for several goroutines.
type guarded struct {
	mu sync.Mutex // guards memory
	memory
}

func (g *guarded) Get(ctx context.Context, into runtime.Object) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.memory.Get(ctx, into)
}

func (g *guarded) Create(ctx context.Context, o runtime.Object) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.memory.Create(ctx, o)
}

func (g *guarded) Update(ctx context.Context, o runtime.Object) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.memory.Update(ctx, o)
}

func (g *guarded) Delete(ctx context.Context, o runtime.Object) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.memory.Delete(ctx, o)
}

func TestReconcile(t *testing.T) {
	m := memory{}
	s := &guarded{memory: m}
	if err := Reconcile(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	if len(m) != len(Defaults()) || len(m) < 140 {
		t.Errorf("%d objects of %d", len(m), len(Defaults()))
	}
	view := m["ClusterRole//system:basic-user"].(*rbacv1.ClusterRole)
	view.Rules = []rbacv1.PolicyRule{on("get", "x", "y")}
	protected := m["ClusterRole//system:discovery"].(*rbacv1.ClusterRole)
	protected.Rules, protected.Annotations[rbacv1.AutoUpdateAnnotationKey] = nil, "false"
	m["ClusterRoleBinding//system:kube-dns"].(*rbacv1.ClusterRoleBinding).RoleRef.Name = "other"
	delete(m, "Role/kube-system/system:controller:token-cleaner")
	if err := Reconcile(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	got := m["ClusterRole//system:basic-user"].(*rbacv1.ClusterRole).Rules
	if d := cmp.Diff(on("get", "x", "y"), got[0]); d != "" || len(got) < 2 {
		t.Error(d, got)
	}
	if len(m["ClusterRole//system:discovery"].(*rbacv1.ClusterRole).Rules) != 0 {
		t.Error("a protected role was changed")
	}
	if m["ClusterRoleBinding//system:kube-dns"].(*rbacv1.ClusterRoleBinding).RoleRef.Name != "system:kube-dns" {
		t.Error("a binding keeps a foreign role")
	}
	if m["Role/kube-system/system:controller:token-cleaner"] == nil {
		t.Error("a missing role was not created")
	}
}
