package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// pod is a pod of about 3 KiB, as controllers make them.
func pod(name string, i int) []byte {
	env := make([]string, 12)
	for j := range env {
		env[j] = fmt.Sprintf(`{"name":"SETTING_%02d","value":"a value of the usual length for number %d"}`, j, i)
	}
	return fmt.Appendf(nil, `{"apiVersion":"v1","kind":"Pod","metadata":{"name":%q,"namespace":"bench","labels":{"app":"bench","tier":"t%d","pod-template-hash":"5d4f8c7b9d"},`+
		`"annotations":{"example.com/checksum":"%064d","prometheus.io/scrape":"true"},"ownerReferences":[{"apiVersion":"apps/v1","kind":"ReplicaSet","name":"bench-5d4f8c7b9d","uid":"3f1c6a52-6d5c-4d3f-9d0b-0d4e6c1f2a3b","controller":true,"blockOwnerDeletion":true}]},`+
		`"spec":{"terminationGracePeriodSeconds":0,"automountServiceAccountToken":false,"containers":[{"name":"main","image":"registry.example.com/team/service:v1.2.3","args":["--listen=:8080","--log-level=info"],"env":[%s],`+
		`"ports":[{"containerPort":8080,"name":"http"}],"resources":{"requests":{"cpu":"1m","memory":"4Mi"},"limits":{"memory":"128Mi"}},"readinessProbe":{"httpGet":{"path":"/ready","port":"http"}},`+
		`"volumeMounts":[{"name":"config","mountPath":"/etc/config"}]}],"volumes":[{"name":"config","configMap":{"name":"settings"}}]}}`, name, i%10, i, strings.Join(env, ","))
}

const pods = "/api/v1/namespaces/bench/pods"

// servers starts both and measures their start, in turns, and what they take when idle.
func (b *bench) api(ctx context.Context) error {
	l, err := b.newLab()
	if err != nil {
		return err
	}
	defer l.Close()
	var both [2]*target
	defer func() { both[0].stop(); both[1].stop() }()
	const starts = 3
	var took [2]time.Duration
	for try := range starts {
		for i := range both {
			both[i].stop()
			if both[i], err = newTarget(ctx, l, i == 1); err != nil {
				return err
			}
			if try == 0 || both[i].Took < took[i] {
				took[i] = both[i].Took
			}
		}
	}
	b.add(row{group: "api", name: "exec to ready, the best of 3", unit: "s, wall", up: took[0].Seconds(), our: took[1].Seconds(), goal: 0.2, note: "upstream's etcd is up already, ours starts with it; not the first start of the store"})
	select {
	case <-time.After(30 * time.Second):
	case <-ctx.Done():
		return ctx.Err()
	}
	var idle [2]int64
	for i, t := range both {
		u, err := t.used()
		if err != nil {
			return err
		}
		idle[i] = u.RSS
	}
	b.add(row{group: "api", name: "resident memory, idle", unit: "MiB", up: mib(idle[0]), our: mib(idle[1]), goal: 0.25, note: "with etcd"})
	return b.load(ctx, both)
}

// load runs each operation on both, in turns.
func (b *bench) load(ctx context.Context, both [2]*target) error {
	n := b.pods
	single := func(method, accept string, body func(i int) []byte, path func(i int) string) func(*target) error {
		return func(t *target) error {
			return each(ctx, n, func(ctx context.Context, i int) error {
				var data []byte
				if body != nil {
					data = body(i)
				}
				return t.send(ctx, method, path(i), accept, data)
			})
		}
	}
	name := func(i int) string { return fmt.Sprintf("p%06d", i) }
	item := func(i int) string { return pods + "/" + name(i) }
	lists := func(count int, query, accept string) func(*target) error {
		return func(t *target) error {
			for range count {
				if err := t.send(ctx, http.MethodGet, pods+query, accept, nil); err != nil {
					return err
				}
			}
			return nil
		}
	}
	const proto, table = "application/vnd.kubernetes.protobuf", "application/json;as=Table;v=v1;g=meta.k8s.io"
	for _, op := range []struct {
		name  string
		count int
		goal  float64
		run   func(*target) error
	}{
		{"create", n, 0.5, single(http.MethodPost, "", func(i int) []byte { return pod(name(i), i) }, func(int) string { return pods })},
		{"get, JSON", n, 1.0 / 3, single(http.MethodGet, "", nil, item)},
		{"get, protobuf", n, 0, single(http.MethodGet, proto, nil, item)},
		{"list of all, protobuf", 10, 0.1, lists(10, "", proto)},
		{"list of all, JSON", 10, 0.2, lists(10, "", "")},
		{"list of all, table", 3, 1.0 / 3, lists(3, "", table)},
		{"list by a label that a tenth has, JSON", 10, 0.2, lists(10, "?labelSelector=tier%3Dt3", "")},
		{"list of 500, then the next, JSON", 10, 0, lists(10, "?limit=500", "")},
		{"patch (merge)", n, 0, single(http.MethodPatch, "", func(i int) []byte {
			return fmt.Appendf(nil, `{"metadata":{"labels":{"turn":"%d"}}}`, time.Now().UnixNano())
		}, item)},
		{"event to 100 watchers, JSON", 100 * watched, 0.25, b.fanOut(ctx)},
		{"delete", n, 0.5, single(http.MethodDelete, "", nil, item)},
	} {
		var s [2]spent
		for i, t := range both {
			var err error
			if s[i], err = t.measure(func() error { return op.run(t) }); err != nil {
				return fmt.Errorf("%s: %s: %w", t.Name, op.name, err)
			}
		}
		if b.profiles != "" && op.name != "create" && op.name != "delete" {
			if err := b.profile(ctx, both[1], op.name, op.run); err != nil {
				return fmt.Errorf("profile of %s: %w", op.name, err)
			}
		}
		count := float64(op.count)
		b.add(row{group: "api", name: op.name, unit: "ms CPU", up: ms(s[0].cpu) / count, our: ms(s[1].cpu) / count, goal: op.goal, note: fmt.Sprintf("wall %.2f and %.2f ms", ms(s[0].wall)/count, ms(s[1].wall)/count)})
		if op.name == "create" {
			b.add(row{group: "api", name: "memory per pod of about 3 KiB", unit: "KiB", up: float64(s[0].anon) / count / 1024, our: float64(s[1].anon) / count / 1024, goal: 0.2, note: "anonymous, right after the creates"})
		}
	}
	return nil
}

// profile repeats a load until the processor profile of its server is written.
func (b *bench) profile(ctx context.Context, t *target, name string, load func(*target) error) error {
	file, err := os.Create(filepath.Join(b.profiles, strings.NewReplacer(" ", "-", ",", "", "(", "", ")", "").Replace(name)+".pprof"))
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	done := make(chan error, 1)
	go func() {
		r, err := t.open(ctx, http.MethodGet, "/debug/pprof/profile?seconds=5", "*/*", nil)
		if err == nil {
			_, err = io.Copy(file, r)
			_ = r.Close()
		}
		done <- err
	}()
	for {
		select {
		case err := <-done:
			return err
		default:
			if err := load(t); err != nil {
				return err
			}
		}
	}
}

// How many watchers see how many changes.
const (
	watchers = 100
	watched  = 200
)

// fanOut changes pods that watchers follow, until all have seen all changes.
func (b *bench) fanOut(ctx context.Context) func(*target) error {
	return func(t *target) error {
		ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
		defer cancel()
		var seen atomic.Int64
		var wg sync.WaitGroup
		ready := make(chan error, watchers)
		done := make(chan struct{})
		for range watchers {
			wg.Go(func() {
				r, err := t.open(ctx, http.MethodGet, pods+"?watch=1&resourceVersion=0&sendInitialEvents=false&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true", "", nil)
				ready <- err
				if err != nil {
					return
				}
				defer func() { _ = r.Close() }()
				lines := bufio.NewScanner(r)
				lines.Buffer(nil, 1<<20)
				for lines.Scan() {
					if strings.HasPrefix(lines.Text(), `{"type":"MODIFIED"`) && seen.Add(1) == watchers*watched {
						close(done)
					}
				}
			})
		}
		for range watchers {
			if err := <-ready; err != nil {
				cancel()
				wg.Wait()
				return err
			}
		}
		err := each(ctx, watched, func(ctx context.Context, i int) error {
			return t.send(ctx, http.MethodPatch, fmt.Sprintf("%s/p%06d", pods, i), "", fmt.Appendf(nil, `{"metadata":{"labels":{"seen":"%d"}}}`, time.Now().UnixNano()))
		})
		if err == nil {
			select {
			case <-done:
			case <-ctx.Done():
				err = fmt.Errorf("%d of %d events came: %w", seen.Load(), watchers*watched, ctx.Err())
			}
		}
		cancel()
		wg.Wait()
		return err
	}
}

// memory is the rise of 16 lists of many pods at the same time.
func (b *bench) memory(ctx context.Context) error {
	l, err := b.newLab()
	if err != nil {
		return err
	}
	l.Sync = false
	defer l.Close()
	var rise [2]int64
	for i := range rise {
		t, err := newTarget(ctx, l, i == 1)
		if err != nil {
			return err
		}
		rise[i], err = b.riseOf(ctx, t)
		t.stop()
		if err != nil {
			return err
		}
	}
	b.add(row{group: "memory", name: fmt.Sprintf("rise by 16 concurrent JSON lists of %d pods", b.many), unit: "MiB", up: mib(rise[0]), our: mib(rise[1]), goal: 0.1, note: "the highest resident memory seen, above that before"})
	return nil
}

func (b *bench) riseOf(ctx context.Context, t *target) (int64, error) {
	if err := each(ctx, b.many, func(ctx context.Context, i int) error {
		return t.send(ctx, http.MethodPost, pods, "", pod(fmt.Sprintf("p%06d", i), i))
	}); err != nil {
		return 0, err
	}
	before, err := t.used()
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	most := before.RSS
	var wg sync.WaitGroup
	stop := make(chan struct{})
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(50 * time.Millisecond):
				if u, err := t.used(); err == nil {
					most = max(most, u.RSS)
				}
			}
		}
	})
	errs := make(chan error, 16)
	for range cap(errs) {
		wg.Go(func() { errs <- t.send(ctx, http.MethodGet, pods, "", nil) })
	}
	for range cap(errs) {
		err = errors.Join(err, <-errs)
	}
	close(stop)
	wg.Wait()
	return most - before.RSS, err
}
