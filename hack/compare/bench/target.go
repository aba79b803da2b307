package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"flagship/hack/compare/lab"
)

// target is an API server with its store.
type target struct {
	*lab.Server
	lab   *lab.Lab
	procs []*lab.Process // what its work is done by
}

// newTarget starts one: upstream's with upstream's etcd, ours with the etcd in it.
func newTarget(ctx context.Context, l *lab.Lab, ours bool) (*target, error) {
	t := &target{lab: l}
	// Lists, watches and writes of a bench are not to wait for their turn, on either side.
	limits := []string{"--max-requests-inflight=3000", "--max-mutating-requests-inflight=1000"}
	if ours {
		embedded, err := l.Embedded(ctx)
		if err != nil {
			return nil, err
		}
		t.Server, err = l.Serve(ctx, "ours", l.Ours, append(limits, embedded...)...)
		if err != nil {
			return nil, err
		}
		t.procs = []*lab.Process{t.Proc}
	} else {
		etcd, url, err := l.Store(ctx, "upstream")
		if err != nil {
			return nil, err
		}
		// The time to ready does not count etcd's.
		time.Sleep(2 * time.Second)
		if t.Server, err = l.Serve(ctx, "upstream", l.Upstream, append(limits, "--etcd-servers="+url)...); err != nil {
			return nil, err
		}
		t.procs = []*lab.Process{t.Proc, etcd}
	}
	for _, ns := range []string{"bench", "default"} {
		for _, o := range []struct{ path, body string }{
			{"/api/v1/namespaces", `{"metadata":{"name":"` + ns + `"}}`},
			{"/api/v1/namespaces/" + ns + "/serviceaccounts", `{"metadata":{"name":"default"}}`},
		} {
			if err := t.send(ctx, http.MethodPost, o.path, "", []byte(o.body)); err != nil && !isConflict(err) {
				return nil, err
			}
		}
	}
	return t, nil
}

func (t *target) stop() {
	if t != nil {
		t.Proc.Stop()
	}
}

// used is what the target's processes took so far.
func (t *target) used() (lab.Usage, error) {
	var sum lab.Usage
	for _, p := range t.procs {
		u, err := p.Usage()
		if err != nil {
			return lab.Usage{}, err
		}
		sum = sum.Add(u)
	}
	return sum, nil
}

// component starts a program of a folder with a kubeconfig for the target.
func (t *target) component(ctx context.Context, name, dir, bin string, args ...string) (*lab.Process, error) {
	conf, err := t.lab.Kubeconfig(t.Server)
	if err != nil {
		return nil, err
	}
	return t.lab.Start(ctx, name, filepath.Join(dir, bin), append([]string{"--kubeconfig=" + conf}, args...)...)
}

// statusError is an answer that is none of the 2xx.
type statusError struct {
	code int
	text string
}

func (e *statusError) Error() string { return fmt.Sprintf("%d: %.300s", e.code, e.text) }

func isConflict(err error) bool {
	e, ok := err.(*statusError) //nolint:errorlint // it is returned as it is
	return ok && e.code == http.StatusConflict
}

// open sends a request and hands over the body of its answer.
func (t *target) open(ctx context.Context, method, path, accept string, body []byte) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, method, t.Base+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+lab.AdminToken)
	if accept == "" {
		accept = "application/json"
	}
	req.Header.Set("Accept", accept)
	if body != nil {
		kind := "application/json"
		if method == http.MethodPatch {
			kind = "application/merge-patch+json"
		}
		req.Header.Set("Content-Type", kind)
	}
	// Without it Go asks for gzip by itself.
	req.Header.Set("Accept-Encoding", "identity")
	resp, err := t.HTTP.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode > 299 {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 2000))
		_ = resp.Body.Close()
		return nil, &statusError{resp.StatusCode, string(text)}
	}
	return resp.Body, nil
}

// send sends a request and throws its answer away.
func (t *target) send(ctx context.Context, method, path, accept string, body []byte) error {
	r, err := t.open(ctx, method, path, accept, body)
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }()
	_, err = io.Copy(io.Discard, r)
	return err
}

// workers is how many requests of a load are in flight.
const workers = 8

// each runs f for 0 to n-1, some at a time.
func each(ctx context.Context, n int, f func(ctx context.Context, i int) error) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(workers)
	for i := range n {
		if ctx.Err() != nil {
			break
		}
		g.Go(func() error { return f(ctx, i) })
	}
	return g.Wait()
}

// spent is what something took of a target.
type spent struct {
	cpu, wall time.Duration
	rss, anon int64
}

// measure says what f took of the target.
func (t *target) measure(f func() error) (spent, error) {
	before, err := t.used()
	if err != nil {
		return spent{}, err
	}
	begin := time.Now()
	if err := f(); err != nil {
		return spent{}, err
	}
	wall := time.Since(begin)
	after, err := t.used()
	return spent{after.CPU - before.CPU, wall, after.RSS - before.RSS, after.Anon - before.Anon}, err
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
func mib(n int64) float64        { return float64(n) / (1 << 20) }
