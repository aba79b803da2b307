package serving

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"
)

// Check is one condition of health.
type Check struct {
	Name string
	// Probe returns why the check fails, nil where it passes. It must answer
	// fast: it is called for every probe.
	Probe func(ctx context.Context) error
	// Live and Ready say which of /livez and /readyz it is part of; /healthz
	// has all of them.
	Live, Ready bool
}

// Checks is the health of a process, safe for concurrent use.
type Checks struct {
	slis *slis

	mu     sync.RWMutex // guards checks
	checks []Check
}

// NewChecks returns the checks that every process has.
func NewChecks() *Checks {
	c := &Checks{slis: newSLIs()}
	c.Add(Check{Name: "ping", Probe: func(context.Context) error { return nil }, Live: true, Ready: true})
	return c
}

// Add adds a check.
func (c *Checks) Add(check Check) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.checks = append(c.checks, check)
}

// Result is the outcome of one check.
type Result struct {
	Name string
	Err  error
}

// Run probes the checks that keep selects.
func (c *Checks) Run(ctx context.Context, keep func(Check) bool) []Result {
	c.mu.RLock()
	checks := slices.Clone(c.checks)
	c.mu.RUnlock()
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	var out []Result
	for _, check := range checks {
		if keep(check) {
			out = append(out, Result{Name: check.Name, Err: check.Probe(ctx)})
		}
	}
	return out
}

// The selections behind /healthz, /livez and /readyz.
func all(Check) bool     { return true }
func live(c Check) bool  { return c.Live }
func ready(c Check) bool { return c.Ready }

// Register serves /healthz, /livez and /readyz with ?verbose, ?exclude=NAME
// and a path per check, and /metrics/slis, as upstream does.
func (c *Checks) Register(mux interface {
	Handle(pattern string, h http.Handler)
},
) {
	for root, keep := range map[string]func(Check) bool{"healthz": all, "livez": live, "readyz": ready} {
		h := c.handler(root, keep)
		mux.Handle("/"+root, h)
		mux.Handle("/"+root+"/", h)
	}
	mux.Handle("/metrics/slis", c.slis.handler())
}

func (c *Checks) handler(root string, keep func(Check) bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Cache-Control", "no-cache, private")
		one := ""
		if len(r.URL.Path) > len(root)+2 {
			one = r.URL.Path[len(root)+2:]
		}
		excluded := r.URL.Query()["exclude"]
		unmatched := slices.Clone(excluded)
		results := c.Run(r.Context(), func(check Check) bool {
			if !keep(check) || one != "" && one != check.Name {
				return false
			}
			unmatched = slices.DeleteFunc(unmatched, func(name string) bool { return name == check.Name })
			return !slices.Contains(excluded, check.Name)
		})
		if one == "" {
			c.slis.observe(root, results) // a check that is asked for alone is not counted, as upstream's is not
		} else if len(results) == 0 {
			http.NotFound(w, r)
			return
		}
		_, verbose := r.URL.Query()["verbose"]
		writeResults(w, root, results, unmatched, verbose)
	})
}

func writeResults(w http.ResponseWriter, root string, results []Result, unmatched []string, verbose bool) {
	var b bytes.Buffer
	failed := false
	for _, res := range results {
		if res.Err != nil {
			failed = true
			// The reason may hold secrets: it goes to the log and to the
			// Component service, both of which are authorized.
			fmt.Fprintf(&b, "[-]%s failed: reason withheld\n", res.Name)
			continue
		}
		fmt.Fprintf(&b, "[+]%s ok\n", res.Name)
	}
	if failed {
		fmt.Fprintf(&b, "%s check failed\n", root)
		w.WriteHeader(http.StatusInternalServerError)
		_, _ = w.Write(b.Bytes())
		return
	}
	if !verbose {
		_, _ = w.Write([]byte("ok"))
		return
	}
	if len(unmatched) > 0 {
		fmt.Fprintf(&b, "warn: some health checks cannot be excluded: no matches for %q\n", unmatched)
	}
	fmt.Fprintf(&b, "%s check passed\n", root)
	_, _ = w.Write(b.Bytes())
}
