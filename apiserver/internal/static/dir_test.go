package static

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"flagship/apiserver/internal/resource"
)

const (
	rules    = "rules: [{operations: [CREATE], apiGroups: [''], apiVersions: [v1], resources: [pods]}]"
	webhook  = "apiVersion: admissionregistration.k8s.io/v1\nkind: ValidatingWebhookConfiguration\nmetadata: {name: NAME}\nwebhooks: [{name: a.b.c, clientConfig: {CLIENT}, sideEffects: None, admissionReviewVersions: [v1], " + rules + "}]\n"
	byURLs   = "url: 'https://127.0.0.1:8443/x'"
	policies = "apiVersion: admissionregistration.k8s.io/v1\nkind: ValidatingAdmissionPolicy\nmetadata: {name: p.static.k8s.io}\nspec: {SPECmatchConstraints: {resourceRules: [{operations: [CREATE], apiGroups: [''], apiVersions: [v1], resources: [pods]}]}, validations: [{expression: 'EXPR'}]}\n"
	bindings = "apiVersion: admissionregistration.k8s.io/v1\nkind: ValidatingAdmissionPolicyBinding\nmetadata: {name: b.static.k8s.io}\nspec: {policyName: POLICY, validationActions: [Deny]}\n"
)

func hookOf(name, client string) string {
	return strings.NewReplacer("NAME", name, "CLIENT", client).Replace(webhook)
}

func policyOf(spec, expression string) string {
	return strings.NewReplacer("SPEC", spec, "EXPR", expression).Replace(policies)
}

func bindingOf(policy string) string { return strings.ReplaceAll(bindings, "POLICY", policy) }

func open(t *testing.T, dir string, kinds ...string) (*Dir, error) {
	t.Helper()
	scheme, err := resource.NewScheme()
	if err != nil {
		t.Fatal(err)
	}
	of := slices.DeleteFunc(resource.Kinds(), func(k *resource.Kind) bool { return k.Version != "v1" || !slices.Contains(kinds, k.Kind) })
	return Open("Plugin", dir, of, scheme, NewMetrics(prometheus.NewRegistry(), "me"), zap.NewNop())
}

func write(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func names(d *Dir, kind string) string {
	var out []string
	for _, o := range d.Objects(schema.GroupVersionResource{Group: "admissionregistration.k8s.io", Version: "v1", Resource: kind}) {
		out = append(out, strings.TrimSuffix(o.(object).GetName(), Suffix))
	}
	return strings.Join(out, " ")
}

func TestOpen(t *testing.T) {
	dir := t.TempDir()
	list := "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: admissionregistration.k8s.io/v1, kind: ValidatingWebhookConfiguration, metadata: {name: a.static.k8s.io, uid: x}}\n"
	write(t, dir, map[string]string{
		"one.yaml": hookOf("z.static.k8s.io", byURLs) + "---\n" + hookOf("m.static.k8s.io", byURLs), "two.YML": list, "empty.json": "", "other.txt": "what ever",
	})
	d, err := open(t, dir, "ValidatingWebhookConfiguration")
	if err != nil {
		t.Fatal(err)
	}
	if got := names(d, "validatingwebhookconfigurations"); got != "a m z" {
		t.Errorf("objects %q", got)
	}
	for _, o := range d.Objects(admissionregistrationv1.SchemeGroupVersion.WithResource("validatingwebhookconfigurations")) {
		c := o.(*admissionregistrationv1.ValidatingWebhookConfiguration)
		if c.UID != "" || len(c.Webhooks) > 0 && (c.Webhooks[0].FailurePolicy == nil || *c.Webhooks[0].TimeoutSeconds != 10) {
			t.Errorf("a UID, or no defaults: %+v", c)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"another name":            {hookOf("z", byURLs), `"z" in file "FILE" must have a name ending with ".static.k8s.io"`},
		"no name":                 {hookOf("''", byURLs), `resource in file "FILE" must have a name`},
		"a name twice":            {hookOf("z.static.k8s.io", byURLs) + "---\n" + hookOf("z.static.k8s.io", byURLs), `duplicate name "z.static.k8s.io" found in file "FILE" (previously seen in "FILE")`},
		"a name that is none":     {hookOf("Z_.static.k8s.io", byURLs), "metadata.name: Invalid value"},
		"a service":               {hookOf("z.static.k8s.io", "service: {namespace: ns, name: svc}"), `webhook "a.b.c" in "z.static.k8s.io" (file "FILE"): clientConfig.service is not supported for static manifests; use clientConfig.url instead`},
		"a field that is unknown": {hookOf("z.static.k8s.io", byURLs+", colour: red"), "unknown field"},
		"what the API refuses":    {hookOf("z.static.k8s.io", "url: 'http://127.0.0.1'"), "'https' is the only allowed URL scheme"},
		"another kind":            {"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c.static.k8s.io}\n", "unsupported resource type *v1.ConfigMap"},
		"a policy with params":    {policyOf("paramKind: {apiVersion: v1, kind: ConfigMap}, ", "true"), `ValidatingAdmissionPolicy "p.static.k8s.io": spec.paramKind is not supported for static manifests`},
		"an expression":           {policyOf("", "object.("), "compilation failed"},
		"a binding of none":       {bindingOf("p.static.k8s.io"), `binding "b.static.k8s.io" references policy "p.static.k8s.io" which does not exist in the manifest directory`},
		"a binding of the API's":  {policyOf("", "true") + "---\n" + bindingOf("p"), `binding "b.static.k8s.io": spec.policyName "p" must end with ".static.k8s.io"`},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, dir, map[string]string{"f.yaml": c.text})
			want := strings.ReplaceAll(c.want, "FILE", filepath.Join(dir, "f.yaml"))
			if _, err := open(t, dir, "ValidatingWebhookConfiguration", "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%v, want %s", err, want)
			}
		})
	}
}

func TestRun(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{"p.yaml": policyOf("", "true")})
	d, err := open(t, dir, "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var run sync.WaitGroup
	run.Go(func() { _ = d.Run(ctx) })
	defer run.Wait()
	defer cancel()
	until := func(what string, ok func() bool) {
		t.Helper()
		for end := time.Now().Add(20 * time.Second); !ok(); {
			if time.Now().After(end) {
				t.Fatalf("%s: policies %q, bindings %q", what, names(d, "validatingadmissionpolicies"), names(d, "validatingadmissionpolicybindings"))
			}
			time.Sleep(10 * time.Millisecond) //nolint:forbidigo // the system tells of the files when it does
		}
	}
	reads := d.Reads()
	write(t, dir, map[string]string{"b.yaml": bindingOf("p.static.k8s.io")})
	until("a new file", func() bool { return names(d, "validatingadmissionpolicybindings") == "b" && d.Reads() > reads })
	// A file that is wrong leaves all as it is; once it is right, it is taken.
	reads = d.Reads()
	write(t, dir, map[string]string{"q.yaml": "kind: [", "x.txt": ""})
	write(t, dir, map[string]string{"q.yaml": strings.ReplaceAll(policyOf("", "true"), "p.static", "q.static")})
	until("a file that was wrong", func() bool { return names(d, "validatingadmissionpolicies") == "p q" && d.Reads() > reads })
}
