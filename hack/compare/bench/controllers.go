package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"flagship/hack/compare/lab"
)

const apps = "/apis/apps/v1/namespaces/bench/deployments"

// controllers runs both controller managers, one after the other, against an API server of ours each.
func (b *bench) controllers(ctx context.Context) error {
	var scale, remove [2]scheduled
	for i := range scale {
		l, err := b.newLab()
		if err != nil {
			return err
		}
		dir := []string{l.Upstream, l.Ours}[i]
		l.Sync = false
		scale[i], remove[i], err = b.control(ctx, l, dir)
		l.Close()
		if err != nil {
			return fmt.Errorf("%s: %w", dir, err)
		}
	}
	b.add(row{group: "controllers", name: fmt.Sprintf("a Deployment from 0 to %d replicas", b.replicas), unit: "s CPU", up: scale[0].cpu.Seconds(), our: scale[1].cpu.Seconds(), note: fmt.Sprintf("wall %.1f and %.1f s", scale[0].wall.Seconds(), scale[1].wall.Seconds())})
	b.add(row{group: "controllers", name: "resident memory after it", unit: "MiB", up: mib(scale[0].rss), our: mib(scale[1].rss)})
	b.add(row{group: "controllers", name: "deletion of a namespace with 10,000 objects", unit: "s CPU", up: remove[0].cpu.Seconds(), our: remove[1].cpu.Seconds(), note: fmt.Sprintf("wall %.1f and %.1f s", remove[0].wall.Seconds(), remove[1].wall.Seconds())})
	return nil
}

func (b *bench) control(ctx context.Context, l *lab.Lab, dir string) (scale, remove scheduled, err error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	t, err := newTarget(ctx, l, true)
	if err != nil {
		return scale, remove, err
	}
	defer t.stop()
	proc, err := t.component(ctx, "controller-manager", dir, "kube-controller-manager", "--leader-elect=false", "--kube-api-qps=5000", "--kube-api-burst=5000",
		"--secure-port=0", "--service-account-private-key-file="+l.Path("sa.key"))
	if err != nil {
		return scale, remove, err
	}
	defer func() {
		proc.Stop()
		if err != nil {
			err = fmt.Errorf("%w; the end of the controller manager's log:\n%s", err, proc.Tail())
		}
	}()
	const deployment = `{"metadata":{"name":"bench"},"spec":{"replicas":0,"selector":{"matchLabels":{"app":"bench"}},"template":{"metadata":{"labels":{"app":"bench"}},"spec":{"terminationGracePeriodSeconds":0,"automountServiceAccountToken":false,"containers":[{"name":"main","image":"registry.k8s.io/pause:3.10"}]}}}}`
	if err := t.send(ctx, http.MethodPost, apps, "", []byte(deployment)); err != nil {
		return scale, remove, err
	}
	if err := t.until(ctx, apps+"/bench", func(d map[string]any) bool { return observed(d) == 1 }); err != nil {
		return scale, remove, err
	}
	scale, err = taken(proc, func() error {
		if err := t.send(ctx, http.MethodPatch, apps+"/bench", "", fmt.Appendf(nil, `{"spec":{"replicas":%d}}`, b.replicas)); err != nil {
			return err
		}
		return t.until(ctx, apps+"/bench", func(d map[string]any) bool {
			status, _ := d["status"].(map[string]any)
			n, _ := status["replicas"].(float64)
			return int(n) == b.replicas
		})
	})
	if err != nil {
		return scale, remove, err
	}
	const objects = 10000
	if err := each(ctx, objects-b.replicas, func(ctx context.Context, i int) error {
		return t.send(ctx, http.MethodPost, "/api/v1/namespaces/bench/configmaps", "", fmt.Appendf(nil, `{"metadata":{"name":"c%05d"},"data":{"k":"v"}}`, i))
	}); err != nil {
		return scale, remove, err
	}
	remove, err = taken(proc, func() error {
		if err := t.send(ctx, http.MethodDelete, "/api/v1/namespaces/bench", "", nil); err != nil {
			return err
		}
		err := t.until(ctx, "/api/v1/namespaces/bench", func(map[string]any) bool { return false })
		var gone *statusError
		if errors.As(err, &gone) && gone.code == http.StatusNotFound {
			return nil
		}
		return err
	})
	return scale, remove, err
}

func observed(d map[string]any) int {
	status, _ := d["status"].(map[string]any)
	n, _ := status["observedGeneration"].(float64)
	return int(n)
}

// taken is what f took of a process, and what came of it.
func taken(p *lab.Process, f func() error) (scheduled, error) {
	before, err := p.Usage()
	if err != nil {
		return scheduled{}, err
	}
	begin := time.Now()
	if err := f(); err != nil {
		return scheduled{}, err
	}
	wall := time.Since(begin)
	// What it still does about it counts too.
	time.Sleep(quiet)
	after, err := p.Usage()
	return scheduled{cpu: after.CPU - before.CPU, wall: wall, rss: after.RSS}, err
}

// until reads an object until it is as wanted. An answer that is no object is an error.
func (t *target) until(ctx context.Context, path string, ok func(map[string]any) bool) error {
	for {
		r, err := t.open(ctx, http.MethodGet, path, "", nil)
		if err != nil {
			return err
		}
		var obj map[string]any
		err = json.NewDecoder(r).Decode(&obj)
		_ = r.Close()
		if err != nil {
			return err
		}
		if ok(obj) {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}
