package review

import (
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/wait"

	"flagship/apiserver/internal/authn"
	"flagship/apiserver/internal/authz"
)

// receiver answers reviews by a function of what it is sent.
type receiver struct {
	*Client
	bodies []string
}

func newReceiver(t *testing.T, answer func(n int, w http.ResponseWriter)) *receiver {
	t.Helper()
	r := &receiver{}
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		body, _ := io.ReadAll(q.Body)
		if q.Method != http.MethodPost || q.URL.Path != "/review" || q.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s %s of %s", q.Method, q.URL, q.Header.Get("Content-Type"))
		}
		r.bodies = append(r.bodies, string(body))
		w.Header().Set("Content-Type", "application/json")
		answer(len(r.bodies), w)
	}))
	t.Cleanup(s.Close)
	ca := filepath.Join(t.TempDir(), "ca.crt")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "kubeconfig")
	text := fmt.Sprintf("apiVersion: v1\nkind: Config\ncurrent-context: c\nclusters: [{name: s, cluster: {server: %q, certificate-authority: %q}}]\n"+
		"users: [{name: u}]\ncontexts: [{name: c, context: {cluster: s, user: u}}]\n", s.URL+"/review", ca)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var err error
	if r.Client, err = NewClient(path, time.Minute); err != nil {
		t.Fatal(err)
	}
	r.backoff = wait.Backoff{Duration: time.Millisecond, Steps: 5}
	return r
}

func says(text string) func(int, http.ResponseWriter) {
	return func(_ int, w http.ResponseWriter) { _, _ = io.WriteString(w, text) }
}

func TestTokens(t *testing.T) {
	for name, x := range map[string]struct {
		version, answer string
		asked           []string
		want            *authn.Identity
		err             string
	}{
		"good": {
			version: "v1", answer: `{"apiVersion":"authentication.k8s.io/v1","kind":"TokenReview","status":{"authenticated":true,"audiences":["b"],"user":{"username":"u","uid":"1","groups":["g"],"extra":{"k":["v"]}}}}`,
			asked: []string{"a", "b"}, want: &authn.Identity{Name: "u", UID: "1", Groups: []string{"g"}, Extra: map[string][]string{"k": {"v"}}, Audiences: []string{"b"}},
		},
		"a server without audiences": {
			version: "v1beta1", answer: `{"apiVersion":"authentication.k8s.io/v1beta1","kind":"TokenReview","status":{"authenticated":true,"user":{"username":"u"}}}`,
			want: &authn.Identity{Name: "u", Audiences: []string{"own"}},
		},
		"another audience":                           {version: "v1", answer: `{"status":{"authenticated":true,"audiences":["x"],"user":{"username":"u"}}}`, asked: []string{"a"}},
		"for another, of a server without audiences": {version: "v1", answer: `{"status":{"authenticated":true,"user":{"username":"u"}}}`, asked: []string{"a"}},
		"bad":             {version: "v1", answer: `{"status":{"authenticated":false}}`},
		"bad, and why":    {version: "v1", answer: `{"status":{"authenticated":false,"error":"it is old"}}`, err: "it is old"},
		"another version": {version: "v1", answer: `{"apiVersion":"authentication.k8s.io/v1beta1","kind":"TokenReview","status":{"authenticated":true,"user":{"username":"u"}}}`, err: "not a TokenReview of authentication.k8s.io/v1"},
		"another kind":    {version: "v1", answer: `{"apiVersion":"v1","kind":"Pod","status":{"authenticated":true}}`, err: "a Pod of v1"},
		"no JSON":         {version: "v1", answer: `hello`, err: "not JSON"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newReceiver(t, says(x.answer))
			tokens, err := NewTokens(r.Client, x.version, []string{"own"})
			if err != nil {
				t.Fatal(err)
			}
			ctx, audiences := t.Context(), `["own"]`
			if x.asked != nil {
				ctx = authn.WithAudiences(ctx, x.asked)
				list, _ := json.Marshal(x.asked)
				audiences = string(list)
			}
			id, ok, err := tokens.AuthenticateToken(ctx, "secret")
			if ok != (x.want != nil) || ok && !reflect.DeepEqual(id, x.want) {
				t.Errorf("%+v %v, want %+v", id, ok, x.want)
			}
			if (err != nil) != (x.err != "") || err != nil && !strings.Contains(err.Error(), x.err) {
				t.Errorf("error %v, want %q", err, x.err)
			}
			if want := fmt.Sprintf(`"apiVersion":"authentication.k8s.io/%s"`, x.version); !strings.Contains(r.bodies[0], want) || !strings.Contains(r.bodies[0], `"token":"secret","audiences":`+audiences) {
				t.Errorf("sent %s", r.bodies[0])
			}
		})
	}
	if _, err := NewTokens(nil, "v2", nil); err == nil {
		t.Error("v2 is taken")
	}
}

func TestAccessVersions(t *testing.T) {
	selector, err := labels.Parse("a=b,c in (d),!e")
	if err != nil {
		t.Fatal(err)
	}
	reqs, _ := selector.Requirements()
	at := authz.Attributes{
		User: &authn.Identity{Name: "u", Groups: []string{"g"}, Extra: map[string][]string{"k": {"v"}}}, ResourceRequest: true, Verb: "list",
		Namespace: "ns", APIVersion: "v1", Resource: "pods", Fields: fields.ParseSelectorOrDie("spec.nodeName=n,status.phase!=Failed").Requirements(), Labels: reqs,
	}
	for version, groups := range map[string]string{"v1": `"groups":["g"]`, "v1beta1": `"group":["g"]`} {
		t.Run(version, func(t *testing.T) {
			r := newReceiver(t, says(`{"apiVersion":"authorization.k8s.io/`+version+`","kind":"SubjectAccessReview","status":{"allowed":true,"reason":"because"}}`))
			a := newAccess(t, AccessConfig{Client: r.Client, Version: version})
			if d, reason, err := a.Authorize(t.Context(), at); d != authz.Allow || reason != "because" || err != nil {
				t.Fatal(d, reason, err)
			}
			for _, want := range []string{
				groups, `"user":"u"`, `"extra":{"k":["v"]}`, `"resourceAttributes":{"namespace":"ns","verb":"list","version":"v1","resource":"pods"`,
				`{"key":"spec.nodeName","operator":"In","values":["n"]},{"key":"status.phase","operator":"NotIn","values":["Failed"]}`,
				`{"key":"a","operator":"In","values":["b"]}`, `{"key":"e","operator":"DoesNotExist"}`,
			} {
				if !strings.Contains(r.bodies[0], want) {
					t.Errorf("sent %s, without %s", r.bodies[0], want)
				}
			}
		})
	}
}

func newAccess(t *testing.T, cfg AccessConfig) *Access {
	t.Helper()
	cfg.Name = "hook"
	if cfg.Version == "" {
		cfg.Version = "v1"
	}
	a, err := NewAccess(cfg, NewMetrics(prometheus.NewRegistry()))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestAccessDecisions(t *testing.T) {
	at := authz.Attributes{User: &authn.Identity{Name: "u"}, Verb: "get", Path: "/x"}
	for name, x := range map[string]struct {
		answer string
		want   authz.Decision
		err    string
	}{
		"yes":        {`{"status":{"allowed":true}}`, authz.Allow, ""},
		"no":         {`{"status":{"allowed":false,"denied":true}}`, authz.Deny, ""},
		"no opinion": {`{"status":{"allowed":false}}`, authz.NoOpinion, ""},
		"both":       {`{"status":{"allowed":true,"denied":true}}`, authz.Deny, "both allow and deny"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newReceiver(t, says(x.answer))
			d, _, err := newAccess(t, AccessConfig{Client: r.Client}).Authorize(t.Context(), at)
			if d != x.want || (err != nil) != (x.err != "") {
				t.Error(d, err)
			}
			if !strings.Contains(r.bodies[0], `"nonResourceAttributes":{"path":"/x","verb":"get"}`) {
				t.Errorf("sent %s", r.bodies[0])
			}
		})
	}
}

func TestAccessKeepsAnswers(t *testing.T) {
	r := newReceiver(t, func(_ int, w http.ResponseWriter) { _, _ = io.WriteString(w, `{"status":{"allowed":true}}`) })
	kept, asked := newAccess(t, AccessConfig{Client: r.Client, AuthorizedTTL: time.Hour}), newAccess(t, AccessConfig{Client: r.Client, UnauthorizedTTL: time.Hour})
	at := authz.Attributes{User: &authn.Identity{Name: "u"}, Verb: "get", Path: "/x"}
	calls := func(a *Access, at authz.Attributes) int {
		before := len(r.bodies)
		for range 3 {
			if d, _, err := a.Authorize(t.Context(), at); d != authz.Allow || err != nil {
				t.Fatal(d, err)
			}
		}
		return len(r.bodies) - before
	}
	if n := calls(kept, at); n != 1 {
		t.Errorf("%d calls, want 1", n)
	}
	if n := calls(asked, at); n != 3 {
		t.Errorf("%d calls where a yes is not kept, want 3", n)
	}
	at.Path = "/" + strings.Repeat("x", maxKey)
	if n := calls(kept, at); n != 3 {
		t.Errorf("%d calls of a request that is too large to be kept, want 3", n)
	}
}

func TestErrors(t *testing.T) {
	at := authz.Attributes{User: &authn.Identity{Name: "u"}, Verb: "get", Path: "/x"}
	fails := func(code, times int) func(int, http.ResponseWriter) {
		return func(n int, w http.ResponseWriter) {
			if n <= times {
				w.WriteHeader(code)
				return
			}
			_, _ = io.WriteString(w, `{"status":{"allowed":true}}`)
		}
	}
	for name, x := range map[string]struct {
		code, times int
		onError     authz.Decision
		want        authz.Decision
		calls       int
	}{
		"passes":              {http.StatusInternalServerError, 3, authz.Deny, authz.Allow, 4},
		"does not pass":       {http.StatusInternalServerError, 9, authz.Deny, authz.Deny, 5},
		"is not tried again":  {http.StatusForbidden, 9, authz.NoOpinion, authz.NoOpinion, 1},
		"is an answer of 404": {http.StatusNotFound, 9, authz.Deny, authz.Deny, 1},
	} {
		t.Run(name, func(t *testing.T) {
			r := newReceiver(t, fails(x.code, x.times))
			a := newAccess(t, AccessConfig{Client: r.Client, OnError: x.onError})
			d, _, err := a.Authorize(t.Context(), at)
			if d != x.want || (err != nil) != (x.want != authz.Allow) || len(r.bodies) != x.calls {
				t.Errorf("%v %v after %d calls", d, err, len(r.bodies))
			}
			open := 0.0
			if x.want == authz.NoOpinion {
				open = 1
			}
			if n := testutil.ToFloat64(a.metrics.open.WithLabelValues("hook", "error")); n != open {
				t.Errorf("%v failures that let others decide, want %v", n, open)
			}
		})
	}
}
