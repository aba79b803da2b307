package fairness

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"flagship/apiserver/internal/authn"
	"flagship/apiserver/internal/rest"
)

// facts are the costs of a test.
type facts struct {
	objects  int
	bytes    int64
	watchers int
}

func (f facts) Stored(*rest.Info) (int, int64, bool) { return f.objects, f.bytes, f.objects >= 0 }
func (f facts) Watching(*rest.Info) int              { return f.watchers }

// statuses remembers what is written.
type statuses struct {
	mu      sync.Mutex
	written map[string]string
}

func (s *statuses) apply(_ context.Context, obj runtime.Object) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := obj.(*flowcontrolv1.FlowSchema)
	s.written[f.Name] = string(f.Status.Conditions[0].Status) + " " + f.Status.Conditions[0].Reason
	return nil
}

func newController(seats int, s *statuses) *Controller {
	return New(Config{Seats: seats, Wait: 10 * time.Second}, Deps{Log: zap.NewNop(), Registry: prometheus.NewRegistry(), Costs: facts{}, ApplyStatus: s.apply})
}

// withDefaults has a controller know the default objects.
func withDefaults(c *Controller) {
	for _, o := range append(suggested(), mandatoryObjects()...) {
		c.Set(o)
	}
	c.compile(time.Now())
}

func TestClassify(t *testing.T) {
	c := newController(600, &statuses{})
	withDefaults(c)
	sa := "system:serviceaccount:kube-system:coredns"
	for name, x := range map[string]struct {
		user   string
		groups string
		info   rest.Info
		want   string
	}{
		"an administrator":                {"root", "system:masters system:authenticated", rest.Info{IsResource: true, Verb: "list", Resource: "pods"}, "exempt"},
		"a probe of nobody":               {authn.Anonymous, authn.AllUnauthenticated, rest.Info{Verb: "get", Path: "/livez/etcd"}, "probes"},
		"a path that begins like it":      {authn.Anonymous, authn.AllUnauthenticated, rest.Info{Verb: "get", Path: "/livezzz"}, "global-default"},
		"a probe that is posted":          {authn.Anonymous, authn.AllUnauthenticated, rest.Info{Verb: "post", Path: "/livez"}, "global-default"},
		"a leader's lease":                {"system:kube-scheduler", authn.AllAuthenticated, rest.Info{IsResource: true, Verb: "update", Group: "coordination.k8s.io", Resource: "leases", Namespace: "kube-system", Name: "kube-scheduler"}, "system-leader-election"},
		"the lease of a service account":  {sa, authn.AllAuthenticated, rest.Info{IsResource: true, Verb: "get", Group: "coordination.k8s.io", Resource: "leases", Namespace: "x", Name: "y"}, "system-leader-election"},
		"a watch of leases":               {"system:kube-scheduler", authn.AllAuthenticated, rest.Info{IsResource: true, Verb: "watch", Group: "coordination.k8s.io", Resource: "leases", Namespace: "x"}, "kube-scheduler"},
		"a node's status":                 {"system:node:n", "system:nodes system:authenticated", rest.Info{IsResource: true, Verb: "patch", Resource: "nodes", Subresource: "status", Name: "n"}, "system-node-high"},
		"a node's other subresource":      {"system:node:n", "system:nodes system:authenticated", rest.Info{IsResource: true, Verb: "get", Resource: "nodes", Subresource: "proxy", Name: "n"}, "system-nodes"},
		"a node's pods":                   {"system:node:n", "system:nodes system:authenticated", rest.Info{IsResource: true, Verb: "list", Resource: "pods"}, "system-nodes"},
		"leases of the whole cluster":     {"system:node:n", "system:nodes system:authenticated", rest.Info{IsResource: true, Verb: "list", Group: "coordination.k8s.io", Resource: "leases"}, "system-nodes"},
		"a service account of the system": {sa, "system:serviceaccounts system:authenticated", rest.Info{IsResource: true, Verb: "list", Resource: "pods"}, "kube-system-service-accounts"},
		"another service account":         {"system:serviceaccount:kube-systemx:a", "system:serviceaccounts system:authenticated", rest.Info{IsResource: true, Verb: "list", Resource: "pods"}, "service-accounts"},
		"a user":                          {"jane", authn.AllAuthenticated, rest.Info{IsResource: true, Verb: "list", Resource: "pods"}, "global-default"},
		"a user of no group":              {"jane", "", rest.Info{IsResource: true, Verb: "list", Resource: "pods"}, "catch-all"},
	} {
		t.Run(name, func(t *testing.T) {
			got := classify(*c.classes.Load(), &authn.Identity{Name: x.user, Groups: strings.Fields(x.groups)}, &x.info)
			if got.schema.Name != x.want {
				t.Errorf("of schema %s, want %s", got.schema.Name, x.want)
			}
		})
	}
}

// The figures are those of upstream's server with its default flags.
func TestDefaultLimits(t *testing.T) {
	c := newController(600, &statuses{})
	withDefaults(c)
	got := map[string][3]int{}
	for name, l := range c.levels {
		got[name] = [3]int{l.share.nominal, l.share.min, l.share.max}
	}
	want := map[string][3]int{
		"catch-all": {13, 13, 613}, "exempt": {0, 0, 600}, "global-default": {49, 24, 649}, "leader-election": {25, 25, 625}, "node-high": {98, 73, 698},
		"system": {74, 50, 674}, "workload-high": {98, 49, 698}, "workload-low": {245, 24, 845},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("nominal, least and greatest seats (-want +got):\n%s", d)
	}
	sum := 0
	for _, l := range c.levels {
		sum += l.share.current
	}
	if math.Abs(float64(sum-602)) > 4 {
		t.Errorf("the levels have %d seats together", sum)
	}
}

func TestAdjust(t *testing.T) {
	level := func(nominal, least, most int, smoothed, high float64) *share {
		return &share{nominal: nominal, min: least, max: most, smoothed: smoothed, demand: demand{high: high}}
	}
	for name, c := range map[string]struct {
		levels []*share
		want   []int
	}{
		"all are busy":                       {[]*share{level(50, 20, 150, 100, 100), level(50, 20, 150, 100, 100)}, []int{50, 50}},
		"one is, and the other lends":        {[]*share{level(50, 20, 150, 100, 100), level(50, 20, 150, 0, 0)}, []int{80, 20}},
		"one may not borrow":                 {[]*share{level(50, 20, 50, 100, 100), level(50, 20, 150, 0, 0)}, []int{50, 50}},
		"one needs a part of its own":        {[]*share{level(50, 20, 150, 200, 200), level(50, 20, 150, 30, 30)}, []int{70, 30}},
		"an exempt level takes what it does": {[]*share{{exempt: true, nominal: 0, demand: demand{high: 30}}, level(50, 20, 150, 100, 100), level(50, 10, 150, 100, 100)}, []int{30, 37, 33}},
		"and all but the least":              {[]*share{{exempt: true, nominal: 0, demand: demand{high: 90}}, level(50, 20, 150, 100, 100), level(50, 10, 150, 100, 100)}, []int{90, 20, 10}},
	} {
		t.Run(name, func(t *testing.T) {
			adjust(c.levels)
			got := []int{}
			for _, l := range c.levels {
				got = append(got, l.current)
			}
			if d := cmp.Diff(c.want, got); d != "" {
				t.Errorf("seats (-want +got):\n%s", d)
			}
		})
	}
}

func TestDemand(t *testing.T) {
	var d demand
	at := time.Unix(100, 0)
	d.set(0, at)
	d.set(10, at.Add(5*time.Second))
	d.set(2, at.Add(6*time.Second))
	seen := d.take(at.Add(10 * time.Second))
	mean, deviation, _ := seen.moments()
	// 5 s of none, 1 s of 10, 4 s of 2.
	if mean != 1.8 || math.Abs(deviation-math.Sqrt(116.0/10-1.8*1.8)) > 1e-9 || seen.most() != 10 || d.most() != 2 {
		t.Errorf("mean %v, deviation %v, most %d, then %d", mean, deviation, seen.most(), d.most())
	}
}

func TestEstimate(t *testing.T) {
	const many = 5000
	for name, c := range map[string]struct {
		info  rest.Info
		query string
		facts facts
		most  int
		want  work
	}{
		"a get":                          {rest.Info{Verb: "get"}, "", facts{many, many * 3000, 0}, 0, work{initial: 1}},
		"a list of little":               {rest.Info{Verb: "list"}, "", facts{10, 30_000, 0}, 0, work{initial: 1}},
		"a list of some":                 {rest.Info{Verb: "list"}, "", facts{100, 300_000, 0}, 0, work{initial: 3}},
		"a list of much":                 {rest.Info{Verb: "list"}, "", facts{many, many * 3000, 0}, 0, work{initial: 10}},
		"of a page":                      {rest.Info{Verb: "list"}, "limit=100", facts{many, many * 3000, 0}, 0, work{initial: 3}},
		"of a level that allows less":    {rest.Info{Verb: "list"}, "", facts{many, many * 3000, 0}, 4, work{initial: 4}},
		"of one name":                    {rest.Info{Verb: "list", Name: "x"}, "", facts{many, many * 3000, 0}, 0, work{initial: 1}},
		"of what is not here":            {rest.Info{Verb: "list"}, "", facts{-1, 0, 0}, 0, work{initial: 1}},
		"with a limit that is none":      {rest.Info{Verb: "list"}, "limit=x", facts{many, many * 3000, 0}, 0, work{initial: 100}},
		"a watch from a version":         {rest.Info{Verb: "watch"}, "resourceVersion=5", facts{many, many * 3000, 0}, 0, work{initial: 1}},
		"a watch of all":                 {rest.Info{Verb: "watch"}, "", facts{many, many * 3000, 0}, 0, work{initial: 10}},
		"with what is there":             {rest.Info{Verb: "watch"}, "resourceVersion=5&sendInitialEvents=true", facts{many, many * 3000, 0}, 0, work{initial: 10}},
		"a change that few hear of":      {rest.Info{Verb: "update"}, "", facts{watchers: 9}, 0, work{initial: 1}},
		"that many hear of":              {rest.Info{Verb: "update"}, "", facts{watchers: 25}, 0, work{initial: 1, final: 3, linger: 5 * time.Millisecond}},
		"that very many hear of":         {rest.Info{Verb: "delete"}, "", facts{watchers: 1000}, 0, work{initial: 1, final: 10, linger: 50 * time.Millisecond}},
		"a token, which nobody hears of": {rest.Info{Verb: "create", Resource: "serviceaccounts", Subresource: "token"}, "", facts{watchers: 1000}, 0, work{initial: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			got, _ := estimate(&c.info, func() url.Values { q, _ := url.ParseQuery(c.query); return q }, c.facts, c.most)
			if got != c.want {
				t.Errorf("%+v, want %+v", got, c.want)
			}
		})
	}
}

func TestDrops(t *testing.T) {
	var d drops
	at := time.Unix(10_000, 0)
	got := []int{}
	for s := range 12 {
		for range 40 {
			d.note(at.Add(time.Duration(s) * time.Second))
		}
		got = append(got, d.note(at.Add(time.Duration(s)*time.Second)))
	}
	if d := cmp.Diff([]int{1, 2, 2, 4, 4, 4, 4, 8, 8, 8, 8, 8}, got); d != "" {
		t.Errorf("a flood (-want +got):\n%s", d)
	}
	got = nil
	for s := range 5 {
		got = append(got, d.note(at.Add(time.Duration(100+40*s)*time.Second)))
	}
	if d := cmp.Diff([]int{7, 6, 5, 4, 3}, got); d != "" {
		t.Errorf("and one now and then (-want +got):\n%s", d)
	}
}

func TestMark(t *testing.T) {
	now := time.Unix(50, 0)
	k := newKinds(prometheus.NewRegistry())
	m := k.reading.executing
	m.clock = func() time.Time { return now }
	m.add(3)
	m.add(-2)
	now = now.Add(time.Second)
	if got := m.last(); got != 3 {
		t.Errorf("the second before: %v", got)
	}
	now = now.Add(5 * time.Second)
	if got := m.last(); got != 1 {
		t.Errorf("a while later: %v", got)
	}
}

// objectStore is a Store in memory.
type objectStore map[string]object

func (s objectStore) Get(_ context.Context, into runtime.Object) error {
	o := into.(object)
	have, ok := s[key(o)]
	if !ok {
		return apierrors.NewNotFound(schema.GroupResource{}, o.GetName())
	}
	switch i := into.(type) {
	case *flowcontrolv1.FlowSchema:
		have.(*flowcontrolv1.FlowSchema).DeepCopyInto(i)
	case *flowcontrolv1.PriorityLevelConfiguration:
		have.(*flowcontrolv1.PriorityLevelConfiguration).DeepCopyInto(i)
	}
	return nil
}

func (s objectStore) Create(_ context.Context, o runtime.Object) error {
	c := o.DeepCopyObject().(object)
	c.SetGeneration(1)
	s[key(c)] = c
	return nil
}

func (s objectStore) Update(_ context.Context, o runtime.Object) error {
	c := o.DeepCopyObject().(object)
	s[key(c)] = c
	return nil
}

func (s objectStore) Delete(_ context.Context, o runtime.Object) error {
	delete(s, key(o.(object)))
	return nil
}

func TestReconcile(t *testing.T) {
	ctx := context.Background()
	c, store := newController(600, &statuses{}), objectStore{}
	if err := c.Reconcile(ctx, store); err != nil || len(store) != 19 {
		t.Fatalf("%d objects, %v", len(store), err)
	}
	level := func(name string) *flowcontrolv1.PriorityLevelConfiguration {
		p, _ := store[key(&flowcontrolv1.PriorityLevelConfiguration{ObjectMeta: metav1.ObjectMeta{Name: name}})].(*flowcontrolv1.PriorityLevelConfiguration)
		return p
	}
	shares := func(n int32) *int32 { return &n }
	level("system").Spec.Limited.NominalConcurrencyShares = shares(77) // not ours to keep: it says it is updated
	level("workload-low").Annotations[flowcontrolv1.AutoUpdateAnnotationKey] = "false"
	level("workload-low").Spec.Limited.NominalConcurrencyShares = shares(77)
	level("workload-high").Annotations = nil // an administrator's by its generation
	level("workload-high").Generation = 2
	level("workload-high").Spec.Limited.NominalConcurrencyShares = shares(77)
	level("catch-all").Annotations[flowcontrolv1.AutoUpdateAnnotationKey] = "false" // the mandatory ones are nobody's
	level("catch-all").Spec.Limited.NominalConcurrencyShares = shares(77)
	level("exempt").Spec.Exempt.NominalConcurrencyShares = shares(77) // but for this
	for _, name := range []string{"old", "mine"} {
		p := limited(name, 1, 0, 0, 0)
		if name == "mine" {
			p.Annotations = nil
		}
		store[key(p)] = p
		c.Set(p)
	}
	if err := c.Reconcile(ctx, store); err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, name := range []string{"system", "workload-low", "workload-high", "catch-all"} {
		got[name] = fmt.Sprint(*level(name).Spec.Limited.NominalConcurrencyShares, level(name).Annotations[flowcontrolv1.AutoUpdateAnnotationKey])
	}
	want := map[string]string{"system": "30true", "workload-low": "77false", "workload-high": "77false", "catch-all": "5true"}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("shares and annotation (-want +got):\n%s", d)
	}
	if *level("exempt").Spec.Exempt.NominalConcurrencyShares != 77 || level("old") != nil || level("mine") == nil {
		t.Errorf("exempt %v, old %v, mine %v", level("exempt").Spec.Exempt, level("old"), level("mine"))
	}
}

// serve sends a request through the controller; done is called with the answer's code and Retry-After.
func serve(c *Controller, user, verb string, deadline time.Duration, handle func(context.Context)) (int, string) {
	info := &rest.Info{IsResource: true, Verb: verb, Resource: "pods", Namespace: "default"}
	ctx := rest.WithUser(rest.WithInfo(context.Background(), info), &authn.Identity{Name: user, Groups: []string{authn.AllAuthenticated}})
	ctx, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	w := httptest.NewRecorder()
	c.Serve(w, httptest.NewRequestWithContext(ctx, http.MethodGet, "/api/v1/namespaces/default/pods?resourceVersion=1", nil), time.Now(), false,
		http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { handle(r.Context()) }))
	return w.Code, w.Header().Get("Retry-After")
}

func TestServe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &statuses{written: map[string]string{}}
		c := newController(2, s)
		ctx, cancel := context.WithCancel(t.Context())
		var run sync.WaitGroup
		run.Go(func() { _ = c.Run(ctx) })
		p := limited("mine", 1000, 0, 4, 2)
		p.UID = "level"
		c.Set(p)
		c.Set(schemaOf("mine", "mine", 5, byUser, everything(everybody())))
		c.Set(schemaOf("lost", "nowhere", 4, byUser, everything(everybody())))
		synctest.Wait()
		if d := cmp.Diff(map[string]string{"mine": "False Found", "lost": "True NotFound"}, s.written); d != "" {
			t.Errorf("conditions (-want +got):\n%s", d)
		}
		limit := c.levels["mine"].share.nominal
		if limit != 2 {
			t.Fatalf("%d seats", limit)
		}

		// Two are served, a third waits for a quarter of its time.
		free := make(chan struct{})
		var busy sync.WaitGroup
		for range limit {
			busy.Go(func() { serve(c, "jane", "get", time.Minute, func(context.Context) { <-free }) })
		}
		synctest.Wait()
		start := time.Now()
		code, after := serve(c, "jane", "get", 20*time.Second, func(context.Context) {})
		if waited := time.Since(start); code != http.StatusTooManyRequests || after != "1" || waited != 5*time.Second {
			t.Errorf("%d, to be tried after %s, waited %v", code, after, waited)
		}
		// Another gets its turn when one ends.
		var late sync.WaitGroup
		late.Go(func() {
			if code, _ := serve(c, "joe", "get", time.Minute, func(context.Context) {}); code != http.StatusOK {
				t.Errorf("a turn came, and the answer is %d", code)
			}
		})
		synctest.Wait()
		close(free)
		busy.Wait()
		late.Wait()

		// Watches keep their seats until they have begun.
		for range 5 {
			busy.Go(func() {
				serve(c, "jane", "watch", time.Hour, func(ctx context.Context) {
					rest.Begun(ctx)
					<-ctx.Done()
				})
			})
		}
		synctest.Wait()
		if l := c.levels["mine"]; l.queues.executing != 0 || l.queues.seats != 0 || l.dispatched != 8 {
			t.Errorf("%d are served, of %d seats, %d were", l.queues.executing, l.queues.seats, l.dispatched)
		}

		// A level that is gone lives for the requests that it has.
		free = make(chan struct{})
		busy.Go(func() { serve(c, "jane", "get", time.Minute, func(context.Context) { <-free }) })
		synctest.Wait()
		c.Delete(p)
		synctest.Wait()
		if l := c.levels["mine"]; l == nil || !l.leaving.Load() || s.written["mine"] != "True NotFound" {
			t.Errorf("%+v, of schemas %v", l, s.written)
		}
		close(free)
		synctest.Wait()
		if c.levels["mine"] != nil {
			t.Error("it has no requests, and is there")
		}
		if code, _ := serve(c, "jane", "get", time.Minute, func(context.Context) {}); code != http.StatusOK {
			t.Errorf("to the level for all others: %d", code)
		}
		cancel()
		run.Wait()
		time.Sleep(time.Hour) // the watches end
		busy.Wait()
	})
}

func TestNumbers(t *testing.T) {
	n := NewNumbers(1, 0, prometheus.NewRegistry())
	send := func(group, verb string, mutating bool, handle func()) int {
		ctx := rest.WithUser(rest.WithInfo(context.Background(), &rest.Info{Verb: verb}), &authn.Identity{Name: "u", Groups: []string{group}})
		w := httptest.NewRecorder()
		n.Serve(w, httptest.NewRequestWithContext(ctx, http.MethodGet, "/", nil), time.Now(), mutating, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { handle() }))
		return w.Code
	}
	none := func() {}
	send("", "get", false, func() {
		got := []int{send("", "get", false, none), send(authn.PrivilegedGroup, "get", false, none), send("", "create", true, none), send("", "watch", false, none)}
		if d := cmp.Diff([]int{429, 200, 200, 200}, got); d != "" {
			t.Errorf("while one reads (-want +got):\n%s", d)
		}
	})
	if got := send("", "get", false, none); got != http.StatusOK {
		t.Errorf("afterwards: %d", got)
	}
}
