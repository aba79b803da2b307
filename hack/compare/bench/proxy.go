package main

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"flagship/hack/compare/lab"
)

const (
	services       = "/api/v1/namespaces/bench/services"
	endpointSlices = "/apis/discovery.k8s.io/v1/namespaces/bench/endpointslices"
	// changes is how many endpoints are exchanged, one after the other.
	changes = 10
	// settle is how long a kube-proxy may take for one of them: it waits for a second for more of them.
	settle = 1500 * time.Millisecond
)

func service(i int) []byte {
	return fmt.Appendf(nil, `{"metadata":{"name":"s%05d"},"spec":{"clusterIP":"10.96.%d.%d","ports":[{"name":"http","port":80,"targetPort":8080}],"selector":{"app":"s%05d"}}}`, i, 16+i/250, 1+i%250, i)
}

func slice(i, endpoint int) []byte {
	return fmt.Appendf(nil, `{"metadata":{"name":"s%05d-x","labels":{"kubernetes.io/service-name":"s%05d"}},"addressType":"IPv4","ports":[{"name":"http","port":8080,"protocol":"TCP"}],`+
		`"endpoints":[{"addresses":["10.244.%d.%d"],"conditions":{"ready":true}},{"addresses":["10.%d.%d.%d"],"conditions":{"ready":true}}]}`, i, i, i/250, 1+i%250, 245+endpoint, i/250, 1+i%250)
}

// proxy runs both kube-proxies, each in a network namespace of its own, against an API server of ours.
func (b *bench) proxy(ctx context.Context) error {
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
	if err := t.send(ctx, http.MethodPost, "/api/v1/nodes", "", []byte(`{"metadata":{"name":"bench"},"status":{"addresses":[{"type":"InternalIP","address":"192.0.2.9"}]}}`)); err != nil {
		return err
	}
	conf, err := l.Kubeconfig(t.Server)
	if err != nil {
		return err
	}
	config := l.Path("proxy.yaml")
	text := fmt.Sprintf("apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\nclientConnection: {kubeconfig: %q, qps: 5000, burst: 5000}\nmode: nftables\nhostnameOverride: bench\n"+
		"clusterCIDR: 10.244.0.0/16\nhealthzBindAddress: 127.0.0.1:10256\nmetricsBindAddress: 127.0.0.1:10249\nconntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}\n", conf)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return err
	}
	made := 0
	for _, n := range []int{1000, 10000} {
		if err := each(ctx, n-made, func(ctx context.Context, i int) error {
			if err := t.send(ctx, http.MethodPost, services, "", service(made+i)); err != nil {
				return err
			}
			return t.send(ctx, http.MethodPost, endpointSlices, "", slice(made+i, 0))
		}); err != nil {
			return err
		}
		made = n
		var first, change [2]scheduled
		for i, dir := range []string{l.Upstream, l.Ours} {
			if first[i], change[i], err = b.proxies(ctx, l, t, dir, config, n); err != nil {
				return fmt.Errorf("%d services, %s: %w", n, dir, err)
			}
		}
		b.add(row{group: "proxy", name: fmt.Sprintf("first sync of %d services", n), unit: "s CPU", up: first[0].cpu.Seconds(), our: first[1].cpu.Seconds(), note: fmt.Sprintf("with its nft; wall %.1f and %.1f s", first[0].wall.Seconds(), first[1].wall.Seconds())})
		b.add(row{group: "proxy", name: fmt.Sprintf("one endpoint of %d services changes", n), unit: "ms CPU", up: ms(change[0].cpu) / changes, our: ms(change[1].cpu) / changes, note: "with its nft"})
		b.add(row{group: "proxy", name: fmt.Sprintf("resident memory with %d services", n), unit: "MiB", up: mib(change[0].rss), our: mib(change[1].rss)})
	}
	return nil
}

// proxies measures one kube-proxy: until it has set the rules of n services, and for changes after that.
func (b *bench) proxies(ctx context.Context, l *lab.Lab, t *target, dir, config string, n int) (first, change scheduled, err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	ns, err := l.NewNamespace(ctx, "flagship-bench-proxy", t.Server)
	if err != nil {
		return first, change, err
	}
	defer ns.Close()
	begin := time.Now()
	proc, err := l.StartIn(ctx, ns, "proxy", filepath.Join(dir, "kube-proxy"), "--config="+config)
	if err != nil {
		return first, change, err
	}
	defer func() {
		proc.Stop()
		if err != nil {
			err = fmt.Errorf("%w; the end of the proxy's log:\n%s", err, proc.Tail())
		}
	}()
	// The second endpoint of the last service tells that all are there.
	if err := until(ctx, ns, fmt.Sprintf("10.245.%d.%d", (n-1)/250, 1+(n-1)%250)); err != nil {
		return first, change, err
	}
	first.wall = time.Since(begin)
	time.Sleep(settle)
	usage, err := proc.Usage()
	if err != nil {
		return first, change, err
	}
	first.cpu = usage.CPU
	change, err = taken(proc, func() error {
		for i := range changes {
			if err := t.send(ctx, http.MethodPut, fmt.Sprintf("%s/s%05d-x", endpointSlices, i), "", slice(i, 1)); err != nil {
				return err
			}
			time.Sleep(settle)
		}
		return nil
	})
	if err != nil {
		return first, change, err
	}
	if err := until(ctx, ns, fmt.Sprintf("10.246.0.%d", changes)); err != nil {
		return first, change, err
	}
	// As they were, for the next.
	for i := range changes {
		if err := t.send(ctx, http.MethodPut, fmt.Sprintf("%s/s%05d-x", endpointSlices, i), "", slice(i, 0)); err != nil {
			return first, change, err
		}
	}
	return first, change, nil
}

// until waits for an address in the namespace's rules.
func until(ctx context.Context, ns *lab.Namespace, address string) error {
	for {
		rules, err := ns.Run(ctx, "nft", "list", "table", "ip", "kube-proxy")
		if err == nil && (bytes.Contains(rules, []byte(address+" ")) || bytes.Contains(rules, []byte(address+":"))) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s is not in the rules: %w", address, ctx.Err())
		case <-time.After(time.Second):
		}
	}
}
