package authzconfig

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/spf13/pflag"
	"go.uber.org/zap"

	"flagship/apiserver/internal/authn"
	"flagship/apiserver/internal/authz"
)

const head = "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthorizationConfiguration\nauthorizers:\n"

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func build(f Flags) (*Authorizers, error) {
	return New(f, BuiltIn{Node: authz.NewNode(&authz.Graph{}), RBAC: &authz.RBAC{}}, prometheus.NewRegistry(), "me", zap.NewNop())
}

// hook is a server that denies who is asked about, and its kubeconfig.
func hook(t *testing.T) (kubeconfig string, calls *int) {
	t.Helper()
	calls = new(int)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		*calls++
		_, _ = w.Write([]byte(`{"status":{"allowed":false,"denied":true,"reason":"no"}}`))
	}))
	t.Cleanup(s.Close)
	kubeconfig = filepath.Join(t.TempDir(), "kubeconfig")
	write(t, kubeconfig, "apiVersion: v1\nkind: Config\ncurrent-context: c\nclusters: [{name: s, cluster: {server: \""+s.URL+"\"}}]\nusers: [{name: u}]\ncontexts: [{name: c, context: {cluster: s, user: u}}]\n")
	return kubeconfig, calls
}

func webhook(kubeconfig, name, more string) string {
	return "- {type: Webhook, name: " + name + ", webhook: {timeout: 3s, subjectAccessReviewVersion: v1, matchConditionSubjectAccessReviewVersion: v1, failurePolicy: Deny, connectionInfo: {type: KubeConfigFile, kubeConfigFile: " + kubeconfig + "}" + more + "}}\n"
}

func TestFile(t *testing.T) {
	kubeconfig, calls := hook(t)
	path := filepath.Join(t.TempDir(), "config.yaml")
	write(t, path, head+webhook(kubeconfig, "first", `, matchConditions: [{expression: "request.user == 'eve'"}]`)+"- {type: RBAC, name: rbac}\n- {type: AlwaysAllow, name: alwaysallow}\n")
	a, err := build(Flags{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	decide := func(user string, groups ...string) authz.Decision {
		d, _, err := a.Authorize(t.Context(), authz.Attributes{User: &authn.Identity{Name: user, Groups: groups}, Verb: "get", Path: "/x"})
		if err != nil {
			t.Error(err)
		}
		return d
	}
	if decide("eve") != authz.Deny || decide("bob") != authz.Allow || decide("eve", authn.PrivilegedGroup) != authz.Allow || *calls != 1 {
		t.Errorf("wrong decisions after %d calls", *calls)
	}
	if n := testutil.ToFloat64(a.metrics.decisions.WithLabelValues("Webhook", "first", "denied")); n != 1 {
		t.Errorf("%v denials are counted", n)
	}
	if r, err := a.RulesFor(&authn.Identity{Name: "bob"}, "x"); err == nil || !r.Incomplete || len(r.List) != 2 {
		t.Errorf("rules %+v, %v", r, err)
	}

	for name, x := range map[string]struct{ text, want string }{
		"without what there was": {"- {type: RBAC, name: rbac}\n", "missing required types: [AlwaysAllow]"},
		"with what there was not": {
			"- {type: RBAC, name: rbac}\n- {type: AlwaysAllow, name: alwaysallow}\n- {type: Node, name: node}\n", "authorizer type Node is not allowed if it was not enabled at initial server startup",
		},
	} {
		if err := a.load([]byte(head + x.text)); err == nil || !strings.Contains(err.Error(), x.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	write(t, path, "no configuration")
	a.reload()
	if decide("eve") != authz.Deny {
		t.Error("a file that is wrong changes something")
	}
	write(t, path, head+"- {type: AlwaysAllow, name: alwaysallow}\n- {type: RBAC, name: rbac}\n")
	a.reload()
	if decide("eve") != authz.Allow {
		t.Error("the changed file is not in force")
	}
	if n := testutil.ToFloat64(a.metrics.reloads.WithLabelValues("failure", a.metrics.identity)); n != 1 {
		t.Errorf("%v failures are counted", n)
	}
	used := fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(head+"- {type: AlwaysAllow, name: alwaysallow}\n- {type: RBAC, name: rbac}\n")))
	if n := testutil.ToFloat64(a.metrics.config.WithLabelValues(a.metrics.identity, used)); n != 1 || testutil.CollectAndCount(a.metrics.config) != 1 {
		t.Errorf("the file in force is not told: %v", n)
	}
}

func TestWrongFiles(t *testing.T) {
	kubeconfig, _ := hook(t)
	valid := webhook(kubeconfig, "w", "")
	for name, x := range map[string]struct{ text, want string }{
		"nobody":         {"[]\n", "authorizers: Required value: at least one authorization mode must be defined"},
		"no type":        {"- {name: x}\n", "authorizers[0].type: Required value"},
		"another type":   {"- {type: X, name: x}\n", `authorizers[0].type: Unsupported value: "X": supported values: "ABAC", "AlwaysAllow", "AlwaysDeny", "Node", "RBAC", "Webhook"`},
		"one twice":      {"- {type: RBAC, name: rbac}\n- {type: RBAC, name: b}\n", `authorizers[1].type: Duplicate value: "RBAC"`},
		"a name twice":   {valid + valid, `authorizers[1].name: Duplicate value: "w"`},
		"no name":        {"- {type: RBAC}\n", "authorizers[0].name: Required value"},
		"a wrong name":   {"- {type: RBAC, name: mine}\n", "expected name rbac for authorizer RBAC instead of mine"},
		"no webhook":     {"- {type: Webhook, name: w}\n", "authorizers[0].webhook: Required value: required when type=Webhook"},
		"too much":       {"- {type: RBAC, name: rbac, webhook: {}}\n", "may only be specified when type=Webhook"},
		"a long timeout": {strings.Replace(valid, "3s", "31s", 1), `authorizers[0].timeout: Invalid value: "31s": must be > 0s and <= 30s`},
		"no version":     {strings.Replace(valid, "subjectAccessReviewVersion: v1,", "", 1), "authorizers[0].subjectAccessReviewVersion: Required value"},
		"no policy":      {strings.Replace(valid, "failurePolicy: Deny,", "", 1), "authorizers[0].failurePolicy: Required value"},
		"no file":        {strings.Replace(valid, kubeconfig, "/nowhere", 1), "error loading file"},
		"itself":         {strings.Replace(valid, "type: KubeConfigFile, kubeConfigFile: "+kubeconfig, "type: InClusterConfig", 1), "not allowed for kube-apiserver"},
		"a condition":    {webhook(kubeconfig, "w", `, matchConditions: [{expression: "request.user"}]`), `authorizers[0].matchConditions[0].expression: Invalid value: "request.user": must evaluate to bool`},
		"an unknown one": {webhook(kubeconfig, "w", `, matchConditions: [{expression: "x"}]`), "compilation failed"},
		"another field":  {"- {type: RBAC, name: rbac, colour: red}\n", "unknown field"},
		"ABAC alone":     {"- {type: ABAC, name: abac}\n", "wants --authorization-policy-file"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "config.yaml")
			text := head + x.text
			if strings.HasPrefix(x.text, "[") {
				text = strings.TrimSuffix(head, "\n") + " " + x.text
			}
			write(t, path, text)
			if _, err := build(Flags{Path: path}); err == nil || !strings.Contains(err.Error(), x.want) {
				t.Errorf("%v\nwant %s", err, x.want)
			}
		})
	}
}

func TestFlags(t *testing.T) {
	kubeconfig, _ := hook(t)
	for line, want := range map[string]string{
		"":                               "",
		"--authorization-mode=Node,RBAC": "",
		"--authorization-mode=Webhook --authorization-webhook-config-file=" + kubeconfig:                                                 "",
		"--authorization-mode=Webhook --authorization-webhook-cache-authorized-ttl=0s --authorization-webhook-config-file=" + kubeconfig: "",
		"--authorization-mode=Webhook":                                                                 "wants --authorization-webhook-config-file",
		"--authorization-mode=ABAC":                                                                    "wants --authorization-policy-file",
		"--authorization-mode=RBAC,RBAC":                                                               "more than once",
		"--authorization-mode=rbac":                                                                    "not a valid mode",
		"--authorization-policy-file=/x":                                                               "goes with --authorization-mode=ABAC alone",
		"--authorization-config=/x --authorization-mode=RBAC":                                          "can not be specified when",
		"--authorization-config=/nowhere":                                                              "no such file",
		"--authorization-mode=Webhook --authorization-webhook-config-file=/x":                          "/x: no such file",
		"--authorization-mode=AlwaysAllow --authorization-webhook-version=v2":                          "not v1 or v1beta1",
		"--authorization-mode=AlwaysDeny --authorization-webhook-cache-unauthorized-ttl=0":             "",
		"--authorization-mode=ABAC,Node --authorization-policy-file=/nowhere":                          "no such file",
		"--authorization-config=/x --authorization-webhook-cache-authorized-ttl=" + "1m":               "can not be specified when",
		"--authorization-mode=RBAC --authorization-webhook-config-file=" + kubeconfig + "_not_of_RBAC": "goes with --authorization-mode=Webhook alone",
	} {
		var f Flags
		fs := pflag.NewFlagSet("x", pflag.ContinueOnError)
		f.AddFlags(fs)
		err := fs.Parse(strings.Fields(line))
		if err == nil {
			err = f.Complete(fs)
		}
		if err == nil {
			_, err = build(f)
		}
		if (err != nil) != (want != "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", line, err, want)
		}
	}
}
