package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"flagship/hack/compare/lab"
)

const (
	// rounds is how often each kubelet has its turn, alone how many pods it starts one after the other in one, burst how many at once after those.
	rounds, alone, burst = 2, 12, 20

	pause = "registry.k8s.io/pause:3.10.2"
	// quiet is how long a process is left alone before its processor time is read.
	quiet = 2 * time.Second
)

// started is what pods took of a kubelet.
type started struct {
	// single are the times from the create of a pod alone to Running, all that of the last of a burst.
	single, all []time.Duration
	// singleCPU and burstCPU are the kubelet's processor time, from the creates until all pods are gone; runtimeCPU is containerd's meanwhile.
	singleCPU, burstCPU, runtimeCPU time.Duration
}

// podStarts runs both kubelets in turns, with one containerd and an API server of ours, beside the bare calls that make the same pod.
func (b *bench) podStarts(ctx context.Context) error {
	if _, err := os.Stat("/etc/kubernetes/admin.conf"); err == nil {
		return errors.New("a cluster is on this machine, whose kubelet has the same cgroups: make down first")
	}
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
	// What every namespace has in a cluster: the volume of a pod's token wants it.
	if err := t.send(ctx, http.MethodPost, "/api/v1/namespaces/bench/configmaps", "", []byte(`{"metadata":{"name":"kube-root-ca.crt"},"data":{"ca.crt":""}}`)); err != nil {
		return err
	}
	r, err := l.NewRuntime(ctx, pause, filepath.Join(b.ours, "images", "registry.k8s.io_pause_3.10.2.tar"))
	if err != nil {
		return err
	}
	defer func() {
		if err := r.Close(); err != nil {
			fmt.Fprintln(os.Stderr, "bench: containerd:", err)
		}
	}()
	var floor []time.Duration
	var took [2]started
	for round := range rounds {
		for i, dir := range []string{l.Upstream, l.Ours} {
			bare, err := bareStarts(ctx, r)
			if err != nil {
				return fmt.Errorf("bare calls: %w", err)
			}
			floor = append(floor, bare...)
			if err := b.kubelet(ctx, l, t, r, dir, fmt.Sprintf("bench-%d-%d", round, i), &took[i]); err != nil {
				return fmt.Errorf("%s: %w", dir, err)
			}
		}
	}
	up, our := took[0], took[1]
	bare := median(floor)
	b.add(row{
		group: "pods", name: "a pod alone, from create to Running, above the bare calls to containerd", unit: "ms, wall", up: ms(median(up.single) - bare), our: ms(median(our.single) - bare),
		note: fmt.Sprintf("medians of %d; the calls alone take %.0f ms", rounds*alone, ms(bare)),
	})
	b.add(row{group: "pods", name: "a pod alone, from create to gone", unit: "ms CPU", up: ms(up.singleCPU) / (rounds * alone), our: ms(our.singleCPU) / (rounds * alone), note: "the kubelet's"})
	b.add(row{group: "pods", name: fmt.Sprintf("%d pods at once, until the last runs", burst), unit: "s, wall", up: median(up.all).Seconds(), our: median(our.all).Seconds()})
	b.add(row{group: "pods", name: fmt.Sprintf("one of %d pods at once, from create to gone", burst), unit: "ms CPU", up: ms(up.burstCPU) / (rounds * burst), our: ms(our.burstCPU) / (rounds * burst), note: "the kubelet's"})
	b.add(row{group: "pods", name: "a pod, from create to gone", unit: "ms CPU", up: ms(up.runtimeCPU) / (rounds * (alone + burst)), our: ms(our.runtimeCPU) / (rounds * (alone + burst)), note: "containerd's, without its shims and runc"})
	return nil
}

func median(list []time.Duration) time.Duration {
	slices.Sort(list)
	return list[len(list)/2]
}

// bareStarts makes pods by the three calls that each pod of one container takes, and removes them.
func bareStarts(ctx context.Context, r *lab.Runtime) (took []time.Duration, err error) {
	for i := range alone {
		begin := time.Now()
		conf := &runtimeapi.PodSandboxConfig{
			Metadata: &runtimeapi.PodSandboxMetadata{Name: fmt.Sprintf("bare-%d", i), Namespace: "bench", Uid: fmt.Sprintf("bare-%d", i)}, LogDirectory: "",
			Linux: &runtimeapi.LinuxPodSandboxConfig{CgroupParent: lab.CgroupParent, SecurityContext: &runtimeapi.LinuxSandboxSecurityContext{
				NamespaceOptions: &runtimeapi.NamespaceOption{Pid: runtimeapi.NamespaceMode_CONTAINER},
			}},
		}
		sandbox, err := r.CRI.RunPodSandbox(ctx, &runtimeapi.RunPodSandboxRequest{Config: conf})
		if err != nil {
			return nil, err
		}
		c, err := r.CRI.CreateContainer(ctx, &runtimeapi.CreateContainerRequest{PodSandboxId: sandbox.PodSandboxId, SandboxConfig: conf, Config: &runtimeapi.ContainerConfig{
			Metadata: &runtimeapi.ContainerMetadata{Name: "main"}, Image: &runtimeapi.ImageSpec{Image: pause},
			Linux: &runtimeapi.LinuxContainerConfig{Resources: &runtimeapi.LinuxContainerResources{CpuShares: 102}},
		}})
		if err != nil {
			return nil, err
		}
		if _, err := r.CRI.StartContainer(ctx, &runtimeapi.StartContainerRequest{ContainerId: c.ContainerId}); err != nil {
			return nil, err
		}
		took = append(took, time.Since(begin))
		if err := r.Empty(ctx); err != nil {
			return nil, err
		}
	}
	return took, nil
}

// kubelet gives one kubelet its turn.
func (b *bench) kubelet(ctx context.Context, l *lab.Lab, t *target, r *lab.Runtime, dir, node string, into *started) (err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	port, err := lab.FreePort()
	if err != nil {
		return err
	}
	root := l.Path(node)
	config := l.Path(node + ".yaml")
	text := fmt.Sprintf("apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\naddress: 127.0.0.1\nport: %d\nhealthzPort: 0\nauthentication: {anonymous: {enabled: true}, webhook: {enabled: false}}\nauthorization: {mode: AlwaysAllow}\n"+
		"containerRuntimeEndpoint: %q\ncgroupDriver: cgroupfs\nfailCgroupV1: false\nfailSwapOn: false\nevictionHard: {memory.available: 100Mi, nodefs.available: 1%%, imagefs.available: 1%%}\nimageGCHighThresholdPercent: 100\n"+
		"podLogsDir: %q\nkubeAPIQPS: 5000\nkubeAPIBurst: 5000\neventRecordQPS: 0\nmakeIPTablesUtilChains: false\n", port, r.Endpoint, root+"-logs")
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return err
	}
	proc, err := t.component(ctx, "kubelet", dir, "kubelet", "--config="+config, "--root-dir="+root, "--cert-dir="+root+"-pki", "--hostname-override="+node)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("%w; the end of the kubelet's log:\n%s", err, proc.Tail())
		}
		proc.Stop()
		err = errors.Join(err, r.Empty(context.WithoutCancel(ctx)))
	}()
	if err := t.nodeReady(ctx, node); err != nil {
		return err
	}
	changes, stop, err := t.watchPods(ctx, node)
	if err != nil {
		return err
	}
	defer stop()
	before, err := r.Proc.Usage()
	if err != nil {
		return err
	}
	single, err := taken(proc, func() error {
		for i := range alone {
			took, err := t.startPods(ctx, changes, node, fmt.Sprintf("alone-%d", i), 1)
			if err != nil {
				return err
			}
			into.single = append(into.single, took)
		}
		return nil
	})
	if err != nil {
		return err
	}
	many, err := taken(proc, func() error {
		took, err := t.startPods(ctx, changes, node, "burst", burst)
		into.all = append(into.all, took)
		return err
	})
	if err != nil {
		return err
	}
	after, err := r.Proc.Usage()
	into.singleCPU += single.cpu
	into.burstCPU += many.cpu
	into.runtimeCPU += after.CPU - before.CPU
	return err
}

// nodeReady waits until a node says that it is.
func (t *target) nodeReady(ctx context.Context, name string) error {
	ready := func(n map[string]any) bool {
		status, _ := n["status"].(map[string]any)
		conditions, _ := status["conditions"].([]any)
		return slices.ContainsFunc(conditions, func(c any) bool {
			m, _ := c.(map[string]any)
			return m["type"] == "Ready" && m["status"] == "True"
		})
	}
	for {
		err := t.until(ctx, "/api/v1/nodes/"+name, ready)
		var status *statusError
		if !errors.As(err, &status) || status.code != http.StatusNotFound {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// podChange is what a watch says of a pod.
type podChange struct {
	at    time.Time
	name  string
	phase string // "" when it is gone
}

// watchPods tells of the changes of a node's pods from now on.
func (t *target) watchPods(ctx context.Context, node string) (<-chan podChange, func(), error) {
	body, err := t.open(ctx, http.MethodGet, pods+"?watch=1&fieldSelector=spec.nodeName%3D"+node, "", nil)
	if err != nil {
		return nil, nil, err
	}
	out := make(chan podChange, 1000)
	go func() {
		defer close(out)
		d := json.NewDecoder(body)
		for {
			var e struct {
				Type   string
				Object struct {
					Metadata struct{ Name string }
					Status   struct{ Phase string }
				}
			}
			if err := d.Decode(&e); err != nil {
				return
			}
			c := podChange{at: time.Now(), name: e.Object.Metadata.Name, phase: e.Object.Status.Phase}
			if e.Type == "DELETED" {
				c.phase = ""
			}
			out <- c
		}
	}()
	return out, func() { _ = body.Close() }, nil
}

// startPods makes n pods on a node, waits until they run, deletes them and waits until they are gone. It says how long it was from the first create to Running of the last.
func (t *target) startPods(ctx context.Context, changes <-chan podChange, node, prefix string, n int) (time.Duration, error) {
	begin := time.Now()
	name := func(i int) string { return fmt.Sprintf("%s-%s-%d", node, prefix, i) }
	if err := each(ctx, n, func(ctx context.Context, i int) error {
		return t.send(ctx, http.MethodPost, pods, "", fmt.Appendf(nil, `{"metadata":{"name":%q},"spec":{"nodeName":%q,"containers":[{"name":"main","image":%q,"resources":{"requests":{"cpu":"1m"}}}]}}`, name(i), node, pause))
	}); err != nil {
		return 0, err
	}
	last, err := await(ctx, changes, "Running", n)
	if err != nil {
		return 0, err
	}
	if err := each(ctx, n, func(ctx context.Context, i int) error {
		return t.send(ctx, http.MethodDelete, pods+"/"+name(i), "", nil)
	}); err != nil {
		return 0, err
	}
	_, err = await(ctx, changes, "", n)
	return last.Sub(begin), err
}

// await says when the last of n pods came to a phase.
func await(ctx context.Context, changes <-chan podChange, phase string, n int) (time.Time, error) {
	seen := map[string]bool{}
	for {
		select {
		case <-ctx.Done():
			return time.Time{}, fmt.Errorf("%d of %d pods came to phase %q: %w", len(seen), n, phase, ctx.Err())
		case c, ok := <-changes:
			if !ok {
				return time.Time{}, io.ErrUnexpectedEOF
			}
			if c.phase != phase {
				continue
			}
			seen[c.name] = true
			if len(seen) == n {
				return c.at, nil
			}
		}
	}
}
