package bootstrap

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"flagship/ctl/internal/cluster"
	"flagship/ctl/internal/host"
	"flagship/ctl/internal/pki"
	"flagship/ctl/internal/spec"
	"flagship/manifests"
)

// The paths that kubeadm has.
const (
	KubernetesDir = "/etc/kubernetes"
	ManifestsDir  = "/etc/kubernetes/manifests"
	KubeletDir    = "/var/lib/kubelet"
	AdminConf     = "/etc/kubernetes/admin.conf"
	superConf     = "/etc/kubernetes/super-admin.conf"
)

// Deps are what the phases stand on.
type Deps struct {
	Out io.Writer
	Now func() time.Time
}

// Phase is one step, named as kubeadm's.
type phase struct {
	name, what string
	run        func(context.Context, *run) error
}

// run is what the phases of one init or join share.
type run struct {
	Deps
	docs    *spec.Documents
	join    *spec.JoinConfiguration
	state   *host.State
	kubelet string
	runtime host.Info
	values  manifests.Values
	started time.Time
	// skipTokenPrint leaves the token out of the last lines.
	skipTokenPrint bool
}

// say writes a line of a phase.
func (r *run) say(phase, format string, args ...any) {
	fmt.Fprintf(r.Out, "[%s] %s\n", phase, fmt.Sprintf(format, args...))
}

// phases runs phases in order, leaving out those that are skipped, and says what took long.
func (r *run) phases(ctx context.Context, all []phase, skip, only []string) error {
	for _, s := range skip {
		if !slices.ContainsFunc(all, func(p phase) bool { return selects(s, p.name) }) {
			return fmt.Errorf("--skip-phases: there is no phase %q", s)
		}
	}
	for _, p := range all {
		if slices.ContainsFunc(skip, func(s string) bool { return selects(s, p.name) }) {
			continue
		}
		if len(only) > 0 && !slices.ContainsFunc(only, func(s string) bool { return selects(s, p.name) }) {
			continue
		}
		start := time.Now()
		if err := p.run(ctx, r); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		if d := time.Since(start); d > 2*time.Second {
			r.say(p.name, "took %.1f s", d.Seconds())
		}
	}
	return nil
}

// selects says whether a name given by the user is the phase or a group that it is in: addon selects addon/coredns.
func selects(given, name string) bool { return given == name || strings.HasPrefix(name, given+"/") }

func (r *run) store() *pki.Store {
	return &pki.Store{Dir: r.docs.Cluster.CertificatesDir, Algorithm: r.docs.Cluster.EncryptionAlgorithm, Now: r.Now}
}

func (r *run) client(kubeconfig string) (*cluster.Client, error) {
	return cluster.New(kubeconfig, "https://"+r.docs.LocalEndpoint())
}

// wait asks every quarter of a second until done, and says every five seconds what is waited for.
func (r *run) wait(ctx context.Context, phase, what string, timeout time.Duration, done func(context.Context) (bool, string)) error {
	start := time.Now()
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	said := start
	for {
		ok, state := done(ctx)
		if ok {
			return nil
		}
		if time.Since(said) >= 5*time.Second {
			said = time.Now()
			r.say(phase, "waiting for %s (%.0f s): %s", what, time.Since(start).Seconds(), state)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s did not come within %s: %s", what, timeout, state)
		case <-time.After(250 * time.Millisecond):
		}
	}
}

// timeout is a configured timeout or its default.
func timeout(t *spec.Timeouts, of func(*spec.Timeouts) time.Duration, def time.Duration) time.Duration {
	if t == nil {
		return def
	}
	if d := of(t); d > 0 {
		return d
	}
	return def
}
