package audit

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"

	"flagship/apiserver/internal/authn"
	"flagship/apiserver/internal/authz"
	"flagship/apiserver/internal/timing"
)

const rules = `
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- {level: None, users: [quiet]}
- {level: None, nonResourceURLs: ["/healthz*"]}
- {level: Metadata, resources: [{group: "", resources: [secrets, "configmaps/*"]}]}
- {level: Request, verbs: [create], namespaces: [a], omitManagedFields: true}
- {level: RequestResponse, resources: [{group: apps, resources: [deployments], resourceNames: [d]}], omitManagedFields: true}
- {level: Metadata, userGroups: [told], omitStages: [ResponseComplete]}
`

func TestPolicy(t *testing.T) {
	p, strange, err := ParsePolicy([]byte(rules))
	if err != nil || strange != nil {
		t.Fatal(strange, err)
	}
	for _, x := range []struct {
		at   authz.Attributes
		want auditv1.Level
	}{
		{authz.Attributes{User: &authn.Identity{Name: "quiet"}, ResourceRequest: true, Resource: "secrets"}, auditv1.LevelNone},
		{authz.Attributes{Path: "/healthz/etcd"}, auditv1.LevelNone},
		{authz.Attributes{ResourceRequest: true, Resource: "secrets", Verb: "get"}, auditv1.LevelMetadata},
		{authz.Attributes{ResourceRequest: true, Resource: "secrets", APIGroup: "x", Verb: "get"}, auditv1.LevelNone},
		{authz.Attributes{ResourceRequest: true, Resource: "secrets", Subresource: "y", Verb: "get"}, auditv1.LevelNone},
		{authz.Attributes{ResourceRequest: true, Resource: "configmaps", Subresource: "y", Verb: "get"}, auditv1.LevelMetadata},
		{authz.Attributes{ResourceRequest: true, Resource: "pods", Namespace: "a", Verb: "create"}, auditv1.LevelRequest},
		{authz.Attributes{ResourceRequest: true, Resource: "pods", Namespace: "b", Verb: "create"}, auditv1.LevelNone},
		{authz.Attributes{ResourceRequest: true, APIGroup: "apps", Resource: "deployments", Name: "d"}, auditv1.LevelRequestResponse},
		{authz.Attributes{ResourceRequest: true, APIGroup: "apps", Resource: "deployments", Name: "e"}, auditv1.LevelNone},
		{authz.Attributes{User: &authn.Identity{Name: "u", Groups: []string{"told"}}, Path: "/x"}, auditv1.LevelMetadata},
	} {
		if got := p.Rule(&x.at).Level; got != x.want {
			t.Errorf("%+v: %s, not %s", x.at, got, x.want)
		}
	}
	if got := p.Rule(&authz.Attributes{User: &authn.Identity{Groups: []string{"told"}}}).OmitStages; len(got) != 2 {
		t.Errorf("the rule leaves out %v", got)
	}
	for text, want := range map[string]string{
		"apiVersion: v1\nkind: Policy\nrules: [{level: None}]":                                                             "it is of apiVersion",
		"apiVersion: audit.k8s.io/v1\nkind: Policy":                                                                        "a policy needs a rule",
		"apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: Loud}]":                                                "rules[0].level: Unsupported value",
		"apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: None, nonResourceURLs: [a], resources: [{group: b}]}]": "must begin with a '/'",
	} {
		if _, _, err := ParsePolicy([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, not %s", text, err, want)
		}
	}
	if _, strange, err := ParsePolicy([]byte("apiVersion: audit.k8s.io/v1\nkind: Policy\nruels: []\nrules: [{level: None}]")); err != nil || strange == nil {
		t.Errorf("an unknown field: %v, %v", strange, err)
	}
}

// gather is a sink that keeps events.
type gather struct {
	mu   sync.Mutex
	list []*auditv1.Event
	full bool
}

func (g *gather) Process(events []*auditv1.Event) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.list = append(g.list, events...)
	return !g.full
}

func testAudit(t *testing.T, policy string) (*Audit, *gather) {
	t.Helper()
	p, _, err := ParsePolicy([]byte(policy))
	if err != nil {
		t.Fatal(err)
	}
	g := &gather{}
	return &Audit{policy: p, sink: g, metrics: newCounters(prometheus.NewRegistry())}, g
}

func TestEventOfARequest(t *testing.T) {
	a, g := testAudit(t, "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: RequestResponse, omitManagedFields: true}]")
	r := httptest.NewRequest(http.MethodPost, "/api/v1/namespaces/a/configmaps?x=1", nil)
	r.Header.Set("User-Agent", strings.Repeat("x", 2000))
	at := authz.Attributes{User: &authn.Identity{Name: "u", Groups: []string{"g"}}, Verb: "create", ResourceRequest: true, Resource: "configmaps", Namespace: "a", APIVersion: "v1"}
	e, ctx := a.Begin(r, "id", &at, time.Now())
	e.Serve(httptest.NewRecorder(), r.WithContext(ctx), false, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		From(r.Context()).RequestObject(&corev1.ConfigMap{TypeMeta: metav1.TypeMeta{Kind: "ConfigMap", APIVersion: "v1"}, ObjectMeta: metav1.ObjectMeta{Name: "c", ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "m"}}}})
		From(r.Context()).Annotate("k", "v")
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusCreated)
		_, _ = w.Write([]byte(`{"kind":"ConfigMap","metadata":{"name":"c","managedFields":[{}]}}` + "\n"))
	}))
	if len(g.list) != 2 || g.list[0].Stage != auditv1.StageRequestReceived || g.list[1].Stage != auditv1.StageResponseComplete {
		t.Fatalf("events %+v", g.list)
	}
	got := g.list[1]
	if got.ResponseStatus.Code != 201 || got.ObjectRef.Name != "c" || got.Annotations["k"] != "v" || got.User.Username != "u" || !strings.HasSuffix(got.UserAgent, "...TRUNCATED") {
		t.Errorf("event %+v", got)
	}
	for _, raw := range [][]byte{got.RequestObject.Raw, got.ResponseObject.Raw} {
		if !json.Valid(raw) || strings.Contains(string(raw), "managedFields") || !strings.Contains(string(raw), `"name":"c"`) {
			t.Errorf("object %s", raw)
		}
	}
	if g.list[0].RequestObject != nil {
		t.Error("what came later is in the first event too")
	}
}

func TestPanicAndLongRequests(t *testing.T) {
	a, g := testAudit(t, "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: Metadata}]")
	r := httptest.NewRequest(http.MethodGet, "/api/v1/pods?watch=1", nil)
	at := authz.Attributes{Verb: "watch", ResourceRequest: true, Resource: "pods"}
	e, ctx := a.Begin(r, "id", &at, time.Now())
	e.Serve(httptest.NewRecorder(), r.WithContext(ctx), true, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.(http.Flusher).Flush() }))
	e, ctx = a.Begin(r, "id", &at, time.Now())
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic ended here")
			}
		}()
		e.Serve(httptest.NewRecorder(), r.WithContext(ctx), false, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("x") }))
	}()
	var stages []string
	for _, e := range g.list {
		stages = append(stages, string(e.Stage))
	}
	if got := strings.Join(stages, " "); got != "RequestReceived ResponseStarted ResponseComplete RequestReceived Panic" {
		t.Errorf("stages %s", got)
	}
	if g.list[4].ResponseStatus.Code != 500 {
		t.Errorf("a panic is told with %+v", g.list[4].ResponseStatus)
	}
}

// What is answered with a Status of the API is told as that, also where the answer's body is not kept; of other errors the code alone.
func TestRefusals(t *testing.T) {
	forbidden := &metav1.Status{TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: metav1.StatusFailure, Code: 403, Message: "no"}
	for name, x := range map[string]struct {
		level, path, verb string
		long, api         bool
		stages            int
		told              bool
	}{
		"an object":     {"RequestResponse", "/api/v1/pods/p", "get", false, true, 2, true},
		"a stream":      {"RequestResponse", "/api/v1/pods/p/exec", "create", true, true, 3, true},
		"a path":        {"RequestResponse", "/metrics", "get", false, true, 2, true},
		"requests only": {"Request", "/api/v1/pods/p", "get", false, true, 2, false},
		"not the API's": {"RequestResponse", "/api/v1/pods/p", "get", false, false, 2, false},
	} {
		t.Run(name, func(t *testing.T) {
			a, g := testAudit(t, "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: "+x.level+"}]")
			r := httptest.NewRequest(http.MethodGet, x.path, nil)
			arrived := time.Now().Add(-time.Minute)
			r = r.WithContext(timing.With(r.Context(), &timing.Timing{Arrived: arrived}))
			e, ctx := a.Begin(r, "id", &authz.Attributes{Verb: x.verb, Path: x.path, ResourceRequest: strings.HasPrefix(x.path, "/api")}, arrived)
			e.Serve(httptest.NewRecorder(), r.WithContext(ctx), x.long, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if x.api {
					From(r.Context()).Answer(forbidden)
				}
				w.Header().Set("Content-Type", "application/json")
				w.WriteHeader(http.StatusForbidden)
				_, _ = w.Write([]byte(`{"message":"no"}`))
			}))
			if len(g.list) != x.stages {
				t.Fatalf("%d events", len(g.list))
			}
			for _, e := range g.list[1:] {
				if e.ResponseStatus.Code != http.StatusForbidden || (e.ResponseStatus.Message == "no") != x.api || (e.ResponseObject != nil) != x.told {
					t.Errorf("%s: %+v, %s", e.Stage, e.ResponseStatus, e.ResponseObject)
				}
			}
		})
	}
}

// The answers of other servers are theirs to tell.
func TestElsewhere(t *testing.T) {
	for _, elsewhere := range []bool{false, true} {
		a, g := testAudit(t, "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: RequestResponse}]")
		r := httptest.NewRequest(http.MethodGet, "/apis/x/v1/y", nil)
		e, ctx := a.Begin(r, "id", &authz.Attributes{Verb: "list", ResourceRequest: true}, time.Now())
		e.Serve(httptest.NewRecorder(), r.WithContext(ctx), false, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if elsewhere {
				From(r.Context()).Elsewhere()
			}
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write([]byte(`{"kind":"Y"}`))
		}))
		if told := g.list[1].ResponseObject != nil; told == elsewhere || g.list[1].ResponseStatus.Code != http.StatusOK {
			t.Errorf("elsewhere %v: %+v", elsewhere, g.list[1])
		}
	}
}

func TestSlow(t *testing.T) {
	for verb, want := range map[string]bool{"get": true, "watch": false} {
		a, g := testAudit(t, "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: Metadata}]")
		arrived := time.Now().Add(-time.Minute)
		r := httptest.NewRequest(http.MethodGet, "/api/v1/pods", nil)
		r = r.WithContext(timing.With(r.Context(), &timing.Timing{Arrived: arrived}))
		e, ctx := a.Begin(r, "id", &authz.Attributes{Verb: verb, ResourceRequest: true}, arrived)
		e.Serve(httptest.NewRecorder(), r.WithContext(ctx), false, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }))
		if _, told := g.list[1].Annotations["apiserver.latency.k8s.io/total"]; told != want {
			t.Errorf("%s: %v", verb, g.list[1].Annotations)
		}
	}
}

func TestStrictRefuses(t *testing.T) {
	a, g := testAudit(t, "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: Metadata}]")
	g.full = true
	r := httptest.NewRequest(http.MethodGet, "/version", nil)
	e, ctx := a.Begin(r, "id", &authz.Attributes{Verb: "get", Path: "/version"}, time.Now())
	w := httptest.NewRecorder()
	e.Serve(w, r.WithContext(ctx), false, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("it was served") }))
	if w.Code != http.StatusInternalServerError {
		t.Errorf("code %d", w.Code)
	}
}

func TestTruncate(t *testing.T) {
	g, lost := &gather{}, 0
	s := &truncating{next: g, cfg: Truncate{MaxEventSize: 600, MaxBatchSize: 1000}, failed: func(n int, _ error) { lost += n }}
	event := func(object, uri string) *auditv1.Event {
		return &auditv1.Event{Level: auditv1.LevelRequest, RequestURI: uri, RequestObject: unknown([]byte(`"` + object + `"`))}
	}
	s.Process([]*auditv1.Event{event("a", "/"), event(strings.Repeat("x", 1000), "/"), event("a", strings.Repeat("y", 1000))})
	if len(g.list) != 2 || lost != 1 || g.list[1].RequestObject != nil || g.list[1].Annotations[truncated] != "true" {
		t.Fatalf("%d lost, kept %+v", lost, g.list)
	}
}

func TestFilesAndServers(t *testing.T) {
	dir := t.TempDir()
	got := make(chan auditv1.EventList, 10)
	tries := 0
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if tries++; tries == 1 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		var list auditv1.EventList
		if err := json.NewDecoder(r.Body).Decode(&list); err != nil {
			t.Error(err)
		}
		got <- list
	}))
	defer srv.Close()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	cfg := NewConfig()
	cfg.PolicyFile = write("policy.yaml", "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: Metadata}]")
	cfg.Log.Path = filepath.Join(dir, "logs", "audit.log")
	cfg.Webhook.ConfigFile = write("hook.conf", "apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts: [{name: c, context: {cluster: c}}]\nclusters: [{name: c, cluster: {server: "+srv.URL+"/events}}]\n")
	cfg.Webhook.InitialBackoff, cfg.Webhook.Batch.MaxWait, cfg.Webhook.Batch.MaxSize = time.Millisecond, time.Hour, 2
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	a, err := New(&cfg, prometheus.NewRegistry(), nil, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { _ = a.Run(ctx); close(done) }()
	r := httptest.NewRequest(http.MethodGet, "/version", nil)
	e, rctx := a.Begin(r, "id", &authz.Attributes{Verb: "get", Path: "/version"}, time.Now())
	e.Serve(httptest.NewRecorder(), r.WithContext(rctx), false, http.NotFoundHandler())
	list := <-got
	cancel()
	<-done
	if len(list.Items) != 2 || list.Kind != "EventList" || list.Items[1].ResponseStatus.Code != 404 {
		t.Errorf("posted %+v", list)
	}
	data, err := os.ReadFile(cfg.Log.Path)
	if err != nil || strings.Count(string(data), "\n") != 2 {
		t.Errorf("the log has %q: %v", data, err)
	}
	if text := line(&list.Items[1]); !strings.Contains(text, `stage="ResponseComplete" ip="192.0.2.1" method="get" user="<none>"`) {
		t.Errorf("legacy line %s", text)
	}
}

func FuzzPolicy(f *testing.F) {
	f.Add([]byte(rules))
	f.Add([]byte(`{"apiVersion":"audit.k8s.io/v1","kind":"Policy","rules":[{"level":"None","nonResourceURLs":["","*","/a*"]}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, _, err := ParsePolicy(data)
		if err != nil {
			return
		}
		for _, at := range []authz.Attributes{{Path: "/a/b"}, {ResourceRequest: true, Resource: "pods", Subresource: "log", Namespace: "n", Name: "x"}} {
			p.Rule(&at)
		}
	})
}
