package admission

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"flagship/apiserver/internal/authz"
)

// allowing allows what it is told, by VERB RESOURCE/SUBRESOURCE NAME.
type allowing map[string]bool

func (l allowing) Authorize(_ context.Context, a authz.Attributes) (authz.Decision, string, error) {
	if l[a.Verb+" "+a.Resource+"/"+a.Subresource+" "+a.Name] {
		return authz.Allow, "", nil
	}
	return authz.NoOpinion, "", nil
}

// optional is a chain of one plugin alone.
func optional(t *testing.T, c *cluster, name string, d Deps) Chain {
	t.Helper()
	off, err := New(Config{}, Deps{})
	if err != nil {
		t.Fatal(err)
	}
	d.Readers = c.readers()
	chain, err := New(Config{Enable: []string{name}, Disable: off.Names()}, d)
	if err != nil {
		t.Fatal(err)
	}
	return chain
}

func TestNamespaceProvision(t *testing.T) {
	c := &cluster{namespaces: map[string]*corev1.Namespace{}}
	chain := optional(t, c, "NamespaceAutoProvision", Deps{CreateNamespace: func(_ context.Context, ns *corev1.Namespace) error {
		c.namespaces[ns.Name] = ns
		return nil
	}})
	a := createPod(t, "{}")
	a.DryRun = true
	wantError(t, "dry run", run(t, chain, a), "")
	if len(c.namespaces) != 0 {
		t.Error("a dry run creates a namespace")
	}
	a.DryRun = false
	wantError(t, "create", run(t, chain, a), "")
	if c.namespaces["ns"] == nil {
		t.Error("there is no namespace")
	}
}

func TestNamespaceExists(t *testing.T) {
	chain := optional(t, &cluster{namespaces: map[string]*corev1.Namespace{"ns": {}}}, "NamespaceExists", Deps{})
	a := createPod(t, "{}")
	wantError(t, "there", run(t, chain, a), "")
	a.Operation, a.Namespace = Delete, "gone"
	wantError(t, "gone", run(t, chain, a), `namespaces "gone" not found`)
}

func TestHardAntiAffinity(t *testing.T) {
	chain := optional(t, &cluster{}, "LimitPodHardAntiAffinityTopology", Deps{})
	spec := func(key string) string {
		return "{affinity: {podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: " + key + "}]}}}"
	}
	wantError(t, "none", run(t, chain, createPod(t, "{}")), "")
	wantError(t, "by node", run(t, chain, createPod(t, spec("kubernetes.io/hostname"))), "")
	wantError(t, "by zone", run(t, chain, createPod(t, spec("zone"))),
		`pods "p" is forbidden: affinity.PodAntiAffinity.RequiredDuringScheduling has TopologyKey zone but only key kubernetes.io/hostname is allowed`)
}

func TestAlways(t *testing.T) {
	wantError(t, "admit", run(t, optional(t, &cluster{}, "AlwaysAdmit", Deps{}), createPod(t, "{}")), "")
	wantError(t, "deny", run(t, optional(t, &cluster{}, "AlwaysDeny", Deps{}), createPod(t, "{}")), `pods "p" is forbidden: admission control is denying all modifications`)
}

func TestOwnerPermissions(t *testing.T) {
	const owned = "metadata: {name: p, namespace: ns, ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: rs, uid: u"
	const blocked = `pods "p" is forbidden: cannot set blockOwnerDeletion if an ownerReference refers to a resource you can't set finalizers on: , <nil>`
	pod := func(text string) *corev1.Pod { return parse[corev1.Pod](t, text) }
	for name, x := range map[string]struct {
		old, next string
		allow     allowing
		want      string
	}{
		"no owner":                   {"", "metadata: {name: p}", nil, ""},
		"an owner at the start":      {"", owned + "}]}", nil, ""},
		"that is kept":               {"", owned + ", blockOwnerDeletion: true}]}", nil, blocked},
		"by who may":                 {"", owned + ", blockOwnerDeletion: true}]}", allowing{"update replicasets/finalizers rs": true}, ""},
		"by who may anything":        {"", owned + ", blockOwnerDeletion: true}]}", allowing{"update */finalizers *": true}, ""},
		"an owner later":             {"metadata: {name: p}", owned + "}]}", nil, `pods "p" is forbidden: cannot set an ownerRef on a resource you can't delete: , <nil>`},
		"an owner later, by who may": {"metadata: {name: p}", owned + "}]}", allowing{"delete pods/ p": true}, ""},
		"that is kept from then on":  {owned + "}]}", owned + ", blockOwnerDeletion: true}]}", allowing{"delete pods/ p": true}, blocked},
		"that is no longer kept":     {owned + ", blockOwnerDeletion: true}]}", owned + "}]}", allowing{"delete pods/ p": true}, ""},
		"that is kept as before":     {owned + ", blockOwnerDeletion: true}]}", owned + ", blockOwnerDeletion: true}]}", nil, ""},
		"of a kind that is not served": {
			"", "metadata: {name: p, ownerReferences: [{apiVersion: a/v1, kind: K, name: k, uid: u, blockOwnerDeletion: true}]}", nil,
			`pods "p" is forbidden: cannot set blockOwnerDeletion in this case because cannot find RESTMapping for APIVersion a/v1 Kind K: no matches for kind "K" in version "a/v1"`,
		},
	} {
		chain := optional(t, &cluster{}, "OwnerReferencesPermissionEnforcement", Deps{Authorizer: x.allow, ResourceOf: func(gvk schema.GroupVersionKind) (schema.GroupVersionResource, bool, bool) {
			return gvk.GroupVersion().WithResource("replicasets"), true, gvk.Kind == "ReplicaSet"
		}})
		a := create(pod(x.next), "", "pods", "Pod")
		if x.old != "" {
			a.Operation, a.OldObject, a.Name = Update, pod(x.old), "p"
		}
		wantError(t, name, run(t, chain, a), x.want)
	}
}

func TestPodNodeSelector(t *testing.T) {
	c := &cluster{namespaces: map[string]*corev1.Namespace{
		"ns": parse[corev1.Namespace](t, "metadata: {name: ns, annotations: {scheduler.alpha.kubernetes.io/node-selector: 'a=b'}}"), "plain": {}, "held": {},
	}}
	chain, err := New(Config{Enable: []string{"PodNodeSelector"}, Files: Files{"PodNodeSelector": []byte("podNodeSelectorPluginConfig: {clusterDefaultNodeSelector: c=d, held: 'c=d,e=f'}")}}, Deps{})
	if err != nil {
		t.Fatal(err)
	}
	p := chain.Plugins[slices.Index(chain.Names(), "PodNodeSelector")].(*PodNodeSelector)
	p.get = c.readers().Namespace
	for name, x := range map[string]struct{ namespace, spec, want, err string }{
		"its namespace's": {"ns", "{}", "a=b", ""},
		"and its own":     {"ns", "{nodeSelector: {x: z}}", "a=b,x=z", ""},
		"against it":      {"ns", "{nodeSelector: {a: c}}", "", `pods "p" is forbidden: pod node label selector conflicts with its namespace node label selector`},
		"the cluster's":   {"plain", "{}", "c=d", ""},
		"held to some":    {"held", "{nodeSelector: {e: f}}", "c=d,e=f", ""},
		"and no others":   {"held", "{nodeSelector: {x: z}}", "", `pods "p" is forbidden: pod node label selector labels conflict with its namespace whitelist`},
	} {
		a := createPod(t, x.spec)
		a.Namespace = x.namespace
		wantError(t, name, run(t, Chain{Plugins: []Plugin{p}}, a), x.err)
		if got := labels.Set(a.Object.(*corev1.Pod).Spec.NodeSelector).String(); x.err == "" && got != x.want {
			t.Errorf("%s: %s, want %s", name, got, x.want)
		}
	}
}

func TestPodSecurityConfiguration(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "admission.yaml")
	text := `apiVersion: apiserver.config.k8s.io/v1
kind: AdmissionConfiguration
plugins:
- name: PodSecurity
  configuration:
    apiVersion: pod-security.admission.config.k8s.io/v1
    kind: PodSecurityConfiguration
    defaults: {enforce: baseline}
    exemptions: {usernames: [root], namespaces: [free], runtimeClasses: [gvisor]}
- {name: PodNodeSelector, path: selectors.yaml}
`
	for file, text := range map[string]string{path: text, filepath.Join(dir, "selectors.yaml"): "podNodeSelectorPluginConfig: {}"} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	files, err := ReadFiles(path)
	if err != nil {
		t.Fatal(err)
	}
	security, err := files.podSecurity()
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{namespaces: map[string]*corev1.Namespace{"ns": {}, "free": {}}}
	p := &PodSecurity{operations: operations{"PodSecurity", []Operation{Create}}, namespace: c.readers().Namespace, podSecurityConfig: security}
	const host = "{hostNetwork: true, containers: [{name: c}]}"
	for name, x := range map[string]struct{ namespace, user, spec, want, exempt string }{
		"refused":       {"ns", "jane", host, `pods "p" is forbidden: violates PodSecurity "baseline:latest": host namespaces (hostNetwork=true)`, ""},
		"the user":      {"ns", "root", host, "", "user"},
		"the namespace": {"free", "jane", host, "", "namespace"},
		"the class":     {"ns", "jane", "{runtimeClassName: gvisor, hostNetwork: true, containers: [{name: c}]}", "", "runtimeClass"},
	} {
		a := createPod(t, x.spec)
		a.Namespace, a.User.Name = x.namespace, x.user
		wantError(t, name, run(t, Chain{Plugins: []Plugin{p}}, a), x.want)
		if got := a.Annotations["pod-security.kubernetes.io/exempt"]; got != x.exempt {
			t.Errorf("%s: exempt by %q, want %q", name, got, x.exempt)
		}
	}
	a := create(parse[corev1.Namespace](t, "metadata: {name: free, labels: {pod-security.kubernetes.io/enforce: restricted, pod-security.kubernetes.io/warn: baseline}}"), "", "namespaces", "Namespace")
	wantError(t, "labels of the exempt", run(t, Chain{Plugins: []Plugin{p}}, a), "")
	if want := `namespace "free" is exempt from Pod Security, and the policy (enforce=restricted:latest, warn=baseline:latest) will be ignored`; len(a.Warnings) != 1 || a.Warnings[0] != want {
		t.Errorf("warnings %q", a.Warnings)
	}

	for text, want := range map[string]string{
		"kind: Pod":          "not of apiserver.config.k8s.io/v1",
		text + "colour: red": "unknown field",
		"{apiVersion: apiserver.config.k8s.io/v1, kind: AdmissionConfiguration, plugins: [{name: PodSecurity, path: gone}]}": "no such file",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadFiles(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
	if _, err := New(Config{Files: Files{"PodSecurity": []byte("{apiVersion: pod-security.admission.config.k8s.io/v1, kind: PodSecurityConfiguration, defaults: {enforce: none}}")}}, Deps{}); err == nil {
		t.Error("a level that there is not is taken")
	}
}

func TestTolerationRestriction(t *testing.T) {
	const memory = "{key: node.kubernetes.io/memory-pressure, operator: Exists, effect: NoSchedule}"
	c := &cluster{namespaces: map[string]*corev1.Namespace{
		"plain": {}, "none": parse[corev1.Namespace](t, "metadata: {annotations: {scheduler.alpha.kubernetes.io/defaultTolerations: '', scheduler.alpha.kubernetes.io/tolerationsWhitelist: ''}}"),
		"own": parse[corev1.Namespace](t, `metadata: {annotations: {scheduler.alpha.kubernetes.io/defaultTolerations: '[{"key":"o","operator":"Exists"}]', scheduler.alpha.kubernetes.io/tolerationsWhitelist: '[{"key":"o","operator":"Exists"}]'}}`),
		"bad": parse[corev1.Namespace](t, "metadata: {annotations: {scheduler.alpha.kubernetes.io/defaultTolerations: x}}"),
	}}
	files := Files{"PodTolerationRestriction": []byte("{apiVersion: podtolerationrestriction.admission.k8s.io/v1alpha1, kind: Configuration, default: [{key: d, operator: Exists}], whitelist: [{key: d, operator: Exists}, " + memory + "]}")}
	cluster, err := files.tolerations()
	if err != nil {
		t.Fatal(err)
	}
	for name, x := range map[string]struct {
		namespace, spec, want, err string
		class                      corev1.PodQOSClass
	}{
		"the cluster's":         {"plain", "{}", "[{key: d, operator: Exists}]", "", corev1.PodQOSBestEffort},
		"and of memory":         {"plain", "{}", "[{key: d, operator: Exists}, " + memory + "]", "", corev1.PodQOSBurstable},
		"outside the cluster's": {"plain", "{tolerations: [{key: z, operator: Exists}]}", "", "pod tolerations (possibly merged with namespace default tolerations) conflict with its cluster whitelist", corev1.PodQOSBestEffort},
		"the namespace's":       {"own", "{}", "[{key: o, operator: Exists}]", "", corev1.PodQOSBestEffort},
		"what covers another":   {"own", "{tolerations: [{key: o, operator: Equal, value: v}]}", "[{key: o, operator: Exists}]", "", corev1.PodQOSBestEffort},
		"outside it":            {"own", "{tolerations: [{key: d, operator: Exists}]}", "", "pod tolerations (possibly merged with namespace default tolerations) conflict with its namespace whitelist", corev1.PodQOSBestEffort},
		"none, and all allowed": {"none", "{tolerations: [{key: z, operator: Exists}]}", "[{key: z, operator: Exists}]", "", corev1.PodQOSBestEffort},
		"no list":               {"bad", "{}", "", "invalid character 'x' looking for beginning of value", corev1.PodQOSBestEffort},
	} {
		p := &TolerationRestriction{operations{"PodTolerationRestriction", []Operation{Create}}, c.readers().Namespace, func(*corev1.Pod) corev1.PodQOSClass { return x.class }, cluster}
		a := createPod(t, x.spec)
		a.Namespace = x.namespace
		wantError(t, name, run(t, Chain{Plugins: []Plugin{p}}, a), x.err)
		if want := *parse[[]corev1.Toleration](t, x.want); x.err == "" && !reflect.DeepEqual(a.Object.(*corev1.Pod).Spec.Tolerations, want) {
			t.Errorf("%s: %v, want %v", name, a.Object.(*corev1.Pod).Spec.Tolerations, want)
		}
	}
}

func TestEventRateLimit(t *testing.T) {
	config := func(limits string) Files {
		return Files{"EventRateLimit": []byte("{apiVersion: eventratelimit.admission.k8s.io/v1alpha1, kind: Configuration, limits: [" + limits + "]}")}
	}
	limits, err := config("{type: Namespace, qps: 1, burst: 2}, {type: SourceAndObject, qps: 1, burst: 1, cacheSize: 10}").eventLimits()
	if err != nil {
		t.Fatal(err)
	}
	p := &EventRateLimit{operations{"EventRateLimit", []Operation{Create}}, limits}
	event := func(namespace, object string) *Attributes {
		a := create(&corev1.Event{InvolvedObject: corev1.ObjectReference{Kind: "Pod", Name: object}}, "", "events", "Event")
		a.Namespace = namespace
		return a
	}
	for i, x := range []struct{ namespace, object, want string }{
		{"a", "x", ""},
		{"a", "y", ""},
		{"a", "z", "Too many requests: limit reached on type Namespace for key a"},
		{"b", "x", "Too many requests: limit reached on type SourceAndObject for key Podx"},
		{"b", "w", ""},
	} {
		err := run(t, Chain{Plugins: []Plugin{p}}, event(x.namespace, x.object))
		wantError(t, fmt.Sprint(i), err, x.want)
		if err != nil && !apierrors.IsTooManyRequests(err) {
			t.Errorf("%d: %v is no 429", i, err)
		}
	}
	dry := event("a", "z")
	dry.DryRun = true
	wantError(t, "dry run", run(t, Chain{Plugins: []Plugin{p}}, dry), "")
	for text, want := range map[string]string{
		"":                                "must not be empty",
		"{type: X, qps: 1, burst: 1}":     "Unsupported value",
		"{type: User, qps: 0, burst: -1}": "must be positive",
	} {
		if _, err := config(text).eventLimits(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
}
