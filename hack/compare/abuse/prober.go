package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"
)

// leasePath is the lease of the node that the prober is.
const leasePath = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/abuse"

// prober is what goes on beside an attack: a kubelet renews its lease, and somebody watches the server's health.
type prober struct {
	cancel        context.CancelFunc
	done          chan error
	lease, health time.Duration
	// version is the lease's resourceVersion.
	version string
}

// probe begins to. The fields are the caller's again after stop.
func (t *target) probe(ctx context.Context) *prober {
	ctx, cancel := context.WithCancel(ctx)
	p := &prober{cancel: cancel, done: make(chan error, 1)}
	go func() { p.done <- p.run(ctx, t) }()
	return p
}

// stop has the round in progress end, waits for it, and returns what failed first.
func (p *prober) stop() error {
	p.cancel()
	return <-p.done
}

func (p *prober) run(ctx context.Context, t *target) (failed error) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		// The last round is not cut short: it is what finds a server that has just been made to hang.
		if err := p.round(context.WithoutCancel(ctx), t); err != nil && failed == nil {
			failed = err
		}
		select {
		case <-ctx.Done():
			return failed
		case <-tick.C:
		}
	}
}

func (p *prober) round(ctx context.Context, t *target) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if p.version == "" {
		if err := p.read(ctx, t); err != nil {
			return err
		}
	}
	lease := fmt.Sprintf(`{"apiVersion":"coordination.k8s.io/v1","kind":"Lease","metadata":{"name":"abuse","namespace":"kube-node-lease","resourceVersion":%q},"spec":{"holderIdentity":"abuse","leaseDurationSeconds":40,"renewTime":%q}}`, p.version, time.Now().UTC().Format("2006-01-02T15:04:05.000000Z"))
	for _, x := range []struct {
		request
		worst *time.Duration
	}{
		{request{method: "PUT", path: leasePath, token: kubeletToken, body: []byte(lease)}, &p.lease},
		{request{method: "GET", path: "/readyz", token: nobody}, &p.health},
		{request{method: "GET", path: "/livez", token: nobody, plain: true}, &p.health},
	} {
		begin := time.Now()
		code, data, err := t.do(ctx, x.request)
		*x.worst = max(*x.worst, time.Since(begin))
		if err != nil {
			return fmt.Errorf("%s %s: %w", x.method, x.path, err)
		}
		if code != "200" {
			return fmt.Errorf("%s %s: %s %.200s", x.method, x.path, code, data)
		}
		if x.path == leasePath {
			p.version = versionOf(data)
		}
	}
	return nil
}

// read learns the lease's version.
func (p *prober) read(ctx context.Context, t *target) error {
	code, data, err := t.do(ctx, get(leasePath).as(kubeletToken))
	if err == nil && code != "200" {
		err = fmt.Errorf("GET %s: %s %.200s", leasePath, code, data)
	}
	p.version = versionOf(data)
	return err
}

// versionOf is an object's resourceVersion.
func versionOf(data []byte) string {
	var o struct {
		Metadata struct {
			ResourceVersion string `json:"resourceVersion"`
		} `json:"metadata"`
	}
	_ = json.Unmarshal(data, &o) // what is no object has none
	return o.Metadata.ResourceVersion
}
