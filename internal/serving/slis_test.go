package serving

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestSLIs(t *testing.T) {
	c := NewChecks()
	broken := errors.New("no")
	c.Add(Check{Name: "store", Ready: true, Probe: func(context.Context) error { return broken }})
	mux := http.NewServeMux()
	c.Register(mux)
	get := func(path string) string {
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
		return w.Body.String()
	}
	want := func(lines ...string) {
		t.Helper()
		got := map[string]bool{}
		n := 0
		for line := range strings.Lines(get("/metrics/slis")) {
			got[strings.TrimSpace(line)] = true
			if !strings.HasPrefix(line, "#") {
				n++
			}
		}
		for _, line := range lines {
			if !got[line] {
				t.Errorf("%s is not of %v", line, got)
			}
		}
		if n != len(lines) {
			t.Errorf("%d series of %d: %v", n, len(lines), got)
		}
	}
	want()
	get("/readyz")
	get("/readyz?exclude=store")
	get("/livez")
	get("/readyz/store")
	get("/readyz/none")
	want(
		`kubernetes_healthcheck{name="ping",type="livez"} 1`, `kubernetes_healthcheck{name="ping",type="readyz"} 1`, `kubernetes_healthcheck{name="store",type="readyz"} 0`,
		`kubernetes_healthchecks_total{name="ping",status="success",type="livez"} 1`, `kubernetes_healthchecks_total{name="ping",status="success",type="readyz"} 2`,
		`kubernetes_healthchecks_total{name="store",status="error",type="readyz"} 1`,
	)
	broken = nil
	get("/readyz")
	want(
		`kubernetes_healthcheck{name="ping",type="livez"} 1`, `kubernetes_healthcheck{name="ping",type="readyz"} 1`, `kubernetes_healthcheck{name="store",type="readyz"} 1`,
		`kubernetes_healthchecks_total{name="ping",status="success",type="livez"} 1`, `kubernetes_healthchecks_total{name="ping",status="success",type="readyz"} 3`,
		`kubernetes_healthchecks_total{name="store",status="error",type="readyz"} 1`, `kubernetes_healthchecks_total{name="store",status="success",type="readyz"} 1`,
	)
	for _, line := range []string{
		"# HELP kubernetes_healthcheck [STABLE] This metric records the result of a single healthcheck.\n# TYPE kubernetes_healthcheck gauge\n",
		"# HELP kubernetes_healthchecks_total [STABLE] This metric records the results of all healthcheck.\n# TYPE kubernetes_healthchecks_total counter\n",
	} {
		if !strings.Contains(get("/metrics/slis"), line) {
			t.Error(line)
		}
	}
}
