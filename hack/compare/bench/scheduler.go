package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"time"
)

// workload is one of scheduler_perf's, at its smaller sizes: pods that are there before, and the pods that are measured.
type workload struct {
	name                string
	measured            string // a part of the measured pods' spec
	many                int    // pods before
	unschedulable       bool   // those before stay pending
	beforeCPU, measures string // what a pod before and a measured one ask for
	priority            int    // of the measured pods
}

// measuredPods is how many pods each workload schedules.
const measuredPods = 1000

var workloads = []workload{
	{name: "basic", many: 1000},
	{name: "node affinity", many: 500, measured: `"affinity":{"nodeAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":{"nodeSelectorTerms":[{"matchExpressions":[{"key":"topology.kubernetes.io/zone","operator":"In","values":["zone0","zone1"]}]}]}}},`},
	{name: "pod affinity", many: 500, measured: `"affinity":{"podAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":[{"labelSelector":{"matchLabels":{"color":"blue"}},"topologyKey":"topology.kubernetes.io/zone"}]}},`},
	{name: "pod anti-affinity", many: 500, measured: `"affinity":{"podAntiAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":[{"labelSelector":{"matchLabels":{"color":"blue"}},"topologyKey":"kubernetes.io/hostname"}]}},`},
	{name: "topology spread", many: 1000, measured: `"topologySpreadConstraints":[{"maxSkew":5,"topologyKey":"topology.kubernetes.io/zone","whenUnsatisfiable":"DoNotSchedule","labelSelector":{"matchLabels":{"color":"blue"}}}],`},
	{name: "preemption", many: 4000, beforeCPU: "3000m", measures: "3000m", priority: 1000},
	{name: "basic beside 500 that fit nowhere", many: 500, beforeCPU: "9000m", unschedulable: true},
}

func schedulerPod(name, spec, cpu string, priority int) []byte {
	if cpu == "" {
		cpu = "100m"
	}
	class := ""
	if priority > 0 {
		class = `"priorityClassName":"bench-high",`
	}
	return fmt.Appendf(nil, `{"apiVersion":"v1","kind":"Pod","metadata":{"name":%q,"namespace":"bench","labels":{"color":"blue"}},"spec":{%s%s"terminationGracePeriodSeconds":0,"automountServiceAccountToken":false,`+
		`"containers":[{"name":"main","image":"registry.k8s.io/pause:3.10","resources":{"requests":{"cpu":%q,"memory":"64Mi"}}}]}}`, name, spec, class, cpu)
}

func node(i int) []byte {
	name := fmt.Sprintf("node-%05d", i)
	return fmt.Appendf(nil, `{"apiVersion":"v1","kind":"Node","metadata":{"name":%q,"labels":{"kubernetes.io/hostname":%q,"topology.kubernetes.io/zone":"zone%d"}},`+
		`"status":{"capacity":{"cpu":"4","memory":"32Gi","pods":"110"},"allocatable":{"cpu":"4","memory":"32Gi","pods":"110"},"conditions":[{"type":"Ready","status":"True","reason":"KubeletReady","lastHeartbeatTime":"2026-01-01T00:00:00Z","lastTransitionTime":"2026-01-01T00:00:00Z"}]}}`, name, name, i%3)
}

// scheduler runs both schedulers, one after the other in each workload, against an API server of ours.
func (b *bench) scheduler(ctx context.Context) error {
	l, err := b.newLab()
	if err != nil {
		return err
	}
	l.Sync = false
	defer l.Close()
	t, err := newTarget(ctx, l, true)
	if err != nil {
		return err
	}
	defer t.stop()
	if err := each(ctx, b.nodes, func(ctx context.Context, i int) error {
		if err := t.send(ctx, http.MethodPost, "/api/v1/nodes", "", node(i)); err != nil {
			return err
		}
		// A new node has a taint until its conditions are seen by the node life cycle controller, which does not run here.
		return t.send(ctx, http.MethodPatch, fmt.Sprintf("/api/v1/nodes/node-%05d", i), "", []byte(`{"spec":{"taints":null}}`))
	}); err != nil {
		return err
	}
	if err := t.send(ctx, http.MethodPost, "/apis/scheduling.k8s.io/v1/priorityclasses", "", []byte(`{"metadata":{"name":"bench-high"},"value":1000}`)); err != nil {
		return err
	}
	conf, err := l.Kubeconfig(t.Server)
	if err != nil {
		return err
	}
	config := l.Path("scheduler.yaml")
	text := fmt.Sprintf("apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\nclientConnection: {kubeconfig: %q, qps: 5000, burst: 5000}\nleaderElection: {leaderElect: false}\n", conf)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return err
	}
	for _, w := range workloads {
		var took [2]scheduled
		for i, dir := range []string{l.Upstream, l.Ours} {
			if took[i], err = b.schedule(ctx, t, dir, config, w); err != nil {
				return fmt.Errorf("%s, %s: %w", w.name, dir, err)
			}
		}
		b.add(row{
			group: "scheduler", name: fmt.Sprintf("%s, %d nodes", w.name, b.nodes), unit: "ms CPU", up: ms(took[0].cpu) / measuredPods, our: ms(took[1].cpu) / measuredPods,
			note: fmt.Sprintf("per pod; %.0f and %.0f pods/s", measuredPods/took[0].wall.Seconds(), measuredPods/took[1].wall.Seconds()),
		})
		b.add(row{group: "scheduler", name: w.name + ", resident memory at the end", unit: "MiB", up: mib(took[0].rss), our: mib(took[1].rss)})
	}
	return nil
}

// scheduled is what a workload took of a scheduler.
type scheduled struct {
	cpu, wall time.Duration
	rss       int64
}

func (b *bench) schedule(ctx context.Context, t *target, dir, config string, w workload) (out scheduled, err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	proc, err := t.lab.Start(ctx, "scheduler", dir+"/kube-scheduler", "--config="+config, "--secure-port=0")
	if err != nil {
		return out, err
	}
	defer func() {
		proc.Stop()
		// The next begins with an empty namespace.
		derr := t.send(context.WithoutCancel(ctx), http.MethodDelete, pods, "", []byte(`{"gracePeriodSeconds":0}`))
		if err == nil {
			err = derr
		} else {
			err = fmt.Errorf("%w; the end of the scheduler's log:\n%s", err, proc.Tail())
		}
	}()
	create := func(prefix string, n int, spec, cpu string, priority int) error {
		return each(ctx, n, func(ctx context.Context, i int) error {
			return t.send(ctx, http.MethodPost, pods, "", schedulerPod(fmt.Sprintf("%s-%05d", prefix, i), spec, cpu, priority))
		})
	}
	if err := create("before", w.many, "", w.beforeCPU, 0); err != nil {
		return out, err
	}
	if !w.unschedulable {
		if err := t.bound(ctx, w.many); err != nil {
			return out, err
		}
	} else {
		time.Sleep(5 * time.Second)
	}
	before, err := proc.Usage()
	if err != nil {
		return out, err
	}
	begin := time.Now()
	if err := create("measured", measuredPods, w.measured, w.measures, w.priority); err != nil {
		return out, err
	}
	if err := t.boundNamed(ctx, "measured-", measuredPods); err != nil {
		return out, err
	}
	out.wall = time.Since(begin)
	after, err := proc.Usage()
	out.cpu, out.rss = after.CPU-before.CPU, after.RSS
	return out, err
}

func (t *target) bound(ctx context.Context, n int) error { return t.boundNamed(ctx, "", n) }

// boundNamed waits until so many pods whose names begin so have a node.
func (t *target) boundNamed(ctx context.Context, prefix string, n int) error {
	for {
		count, err := t.count(ctx, pods+"?fieldSelector=spec.nodeName!%3D", prefix)
		if err != nil {
			return err
		}
		if count >= n {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d of %d pods have a node: %w", count, n, ctx.Err())
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// count is how many objects of a list have names that begin so.
func (t *target) count(ctx context.Context, path, prefix string) (int, error) {
	r, err := t.open(ctx, http.MethodGet, path, "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io", nil)
	if err != nil {
		return 0, err
	}
	defer func() { _ = r.Close() }()
	var list struct {
		Items []struct{ Metadata struct{ Name string } }
	}
	if err := json.NewDecoder(r).Decode(&list); err != nil {
		return 0, err
	}
	n := 0
	for _, it := range list.Items {
		if len(it.Metadata.Name) >= len(prefix) && it.Metadata.Name[:len(prefix)] == prefix {
			n++
		}
	}
	return n, nil
}
