// Package leader elects one of several instances of a component by a Lease,
// with the record and timing rules of client-go's leaderelection, so that ours
// and upstream's instances can stand in one election.
//
// Data in: the Lease and the clock. Data out: a context that lives as long as
// the lead is held. Run owns one goroutine and waits for it. client-go's own
// package is not used: it registers every API group (DESIGN §3).
package leader

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/spf13/pflag"
	"go.uber.org/zap"
	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Config is an election's parameters.
type Config struct {
	// Elect is whether to stand in an election at all.
	Elect bool
	// Namespace and Name of the Lease.
	Namespace, Name string
	// Identity of this instance, unique in the election.
	Identity string
	// LeaseDuration is how long others wait after the last renewal they saw.
	LeaseDuration time.Duration
	// RenewDeadline is how long the leader tries to renew before it gives up;
	// less than LeaseDuration.
	RenewDeadline time.Duration
	// RetryPeriod is the time between tries, with jitter when not leading.
	RetryPeriod time.Duration
}

// Defaults are upstream's: 15 s, 10 s, 2 s, in kube-system.
func Defaults(name string) Config {
	return Config{
		Elect: true, Namespace: "kube-system", Name: name,
		LeaseDuration: 15 * time.Second, RenewDeadline: 10 * time.Second, RetryPeriod: 2 * time.Second,
	}
}

// AddFlags registers upstream's --leader-elect flags.
func AddFlags(fs *pflag.FlagSet, c *Config) {
	fs.BoolVar(&c.Elect, "leader-elect", c.Elect, "stand in an election before doing any work, for components that run replicated")
	fs.StringVar(&c.Namespace, "leader-elect-resource-namespace", c.Namespace, "namespace of the Lease")
	fs.StringVar(&c.Name, "leader-elect-resource-name", c.Name, "name of the Lease")
	fs.DurationVar(&c.LeaseDuration, "leader-elect-lease-duration", c.LeaseDuration, "how long others wait after the last renewal they saw")
	fs.DurationVar(&c.RenewDeadline, "leader-elect-renew-deadline", c.RenewDeadline, "how long the leader tries to renew before it gives up; less than the lease duration")
	fs.DurationVar(&c.RetryPeriod, "leader-elect-retry-period", c.RetryPeriod, "time between tries")
}

// Validate returns what is wrong with the parameters.
func (c Config) Validate() error {
	if !c.Elect {
		return nil
	}
	switch {
	case c.RetryPeriod <= 0:
		return errors.New("--leader-elect-retry-period must be greater than zero")
	case c.RenewDeadline <= jitterFactor(c.RetryPeriod):
		return errors.New("--leader-elect-renew-deadline must be greater than --leader-elect-retry-period times 1.2")
	case c.LeaseDuration <= c.RenewDeadline:
		return errors.New("--leader-elect-lease-duration must be greater than --leader-elect-renew-deadline")
	}
	return nil
}

func jitterFactor(d time.Duration) time.Duration { return d * 12 / 10 }

// Leases is the access to the election's Lease.
type Leases interface {
	Get(ctx context.Context, name string, o metav1.GetOptions) (*coordinationv1.Lease, error)
	Create(ctx context.Context, l *coordinationv1.Lease, o metav1.CreateOptions) (*coordinationv1.Lease, error)
	Update(ctx context.Context, l *coordinationv1.Lease, o metav1.UpdateOptions) (*coordinationv1.Lease, error)
}

// ErrLost means that the lead was lost; the process should end, so that
// nothing of it acts on without the lead.
var ErrLost = errors.New("leader election lost")

// Elector is one instance in an election.
type Elector struct {
	cfg    Config
	leases Leases
	log    *zap.Logger
	leader atomic.Pointer[string]

	// observed is the Lease as last seen to change, and when. Only Run's
	// goroutine touches it.
	observed   *coordinationv1.Lease
	observedAt time.Time
}

// New returns an elector. It does no I/O.
func New(cfg Config, leases Leases, log *zap.Logger) *Elector {
	return &Elector{cfg: cfg, leases: leases, log: log}
}

// Leader is the identity of the leader as last seen, empty where unknown.
func (e *Elector) Leader() string {
	if p := e.leader.Load(); p != nil {
		return *p
	}
	return ""
}

// Run waits for the lead, then calls lead with a context that ends when the
// lead is lost. It returns ErrLost after a loss, nil when ctx ended; on the way
// out it releases the Lease.
func (e *Elector) Run(ctx context.Context, lead func(ctx context.Context) error) error {
	if !e.cfg.Elect {
		return lead(ctx)
	}
	if err := e.acquire(ctx); err != nil {
		return nil //nolint:nilerr // ctx ended before the lead was won
	}
	e.log.Info("became leader", zap.String("lease", e.cfg.Namespace+"/"+e.cfg.Name), zap.String("identity", e.cfg.Identity))
	leadCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- lead(leadCtx) }()
	lost := e.renew(leadCtx, done)
	cancel()
	if lost != nil {
		// Others may lead already: what lead does must end first. How it
		// ended says nothing that the loss does not.
		_ = <-done
		return lost
	}
	err := <-done
	e.release()
	if ctx.Err() != nil {
		return nil
	}
	return err
}

func (e *Elector) acquire(ctx context.Context) error {
	for {
		if ok, err := e.try(ctx); err != nil {
			e.log.Warn("cannot acquire lease", zap.String("lease", e.cfg.Namespace+"/"+e.cfg.Name), zap.Error(err))
		} else if ok {
			return nil
		}
		if err := sleep(ctx, e.cfg.RetryPeriod+rand.N(e.cfg.RetryPeriod*6/5)); err != nil {
			return err
		}
	}
}

// renew keeps the lead until ctx ends or lead returns (nil), or it is lost. A
// finished lead is put back into done for the caller to read.
func (e *Elector) renew(ctx context.Context, done chan error) error {
	last := time.Now()
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-done:
			done <- err
			return nil
		case <-time.After(e.cfg.RetryPeriod):
		}
		tryCtx, cancel := context.WithDeadline(ctx, last.Add(e.cfg.RenewDeadline))
		ok, err := e.try(tryCtx)
		cancel()
		switch {
		case ok:
			last = time.Now()
		case err == nil:
			return ErrLost
		case ctx.Err() != nil:
			return nil //nolint:nilerr // an ordinary stop
		case time.Since(last) >= e.cfg.RenewDeadline:
			e.log.Error("cannot renew lease", zap.Error(err))
			return ErrLost
		default:
			e.log.Warn("cannot renew lease, trying again", zap.Error(err))
		}
	}
}

// try creates, takes over or renews the Lease. False without an error means
// that another holds it.
func (e *Elector) try(ctx context.Context) (bool, error) {
	now := time.Now()
	l, err := e.leases.Get(ctx, e.cfg.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		created, err := e.leases.Create(ctx, &coordinationv1.Lease{
			ObjectMeta: metav1.ObjectMeta{Name: e.cfg.Name, Namespace: e.cfg.Namespace},
			Spec:       e.spec(nil, now),
		}, metav1.CreateOptions{})
		if err != nil {
			return false, err
		}
		e.see(created, now)
		return true, nil
	}
	if err != nil {
		return false, err
	}
	if e.observed == nil || e.observed.ResourceVersion != l.ResourceVersion {
		e.see(l, now)
	}
	holder := deref(l.Spec.HolderIdentity)
	if holder != "" && holder != e.cfg.Identity && now.Before(e.observedAt.Add(leaseDuration(l))) {
		return false, nil
	}
	next := l.DeepCopy()
	next.Spec = e.spec(l, now)
	updated, err := e.leases.Update(ctx, next, metav1.UpdateOptions{})
	if err != nil {
		return false, err
	}
	e.see(updated, now)
	return true, nil
}

func leaseDuration(l *coordinationv1.Lease) time.Duration {
	if l.Spec.LeaseDurationSeconds == nil {
		return 0
	}
	return time.Duration(*l.Spec.LeaseDurationSeconds) * time.Second
}

func (e *Elector) spec(old *coordinationv1.Lease, now time.Time) coordinationv1.LeaseSpec {
	micro := metav1.NewMicroTime(now)
	seconds := int32(e.cfg.LeaseDuration / time.Second)
	s := coordinationv1.LeaseSpec{
		HolderIdentity: &e.cfg.Identity, LeaseDurationSeconds: &seconds,
		AcquireTime: &micro, RenewTime: &micro, LeaseTransitions: new(int32),
	}
	if old == nil {
		return s
	}
	if old.Spec.LeaseTransitions != nil {
		*s.LeaseTransitions = *old.Spec.LeaseTransitions
	}
	if deref(old.Spec.HolderIdentity) == e.cfg.Identity {
		s.AcquireTime = old.Spec.AcquireTime
	} else {
		*s.LeaseTransitions++
	}
	return s
}

func (e *Elector) see(l *coordinationv1.Lease, now time.Time) {
	e.observed, e.observedAt = l, now
	holder := deref(l.Spec.HolderIdentity)
	if old := e.leader.Swap(&holder); old == nil || *old != holder {
		e.log.Info("leader seen", zap.String("leader", holder))
	}
}

// release lets the next leader take over at once.
func (e *Elector) release() {
	ctx, cancel := context.WithTimeout(context.Background(), e.cfg.RenewDeadline)
	defer cancel()
	l := e.observed.DeepCopy()
	now, one, none := metav1.NewMicroTime(time.Now()), int32(1), ""
	l.Spec.HolderIdentity, l.Spec.LeaseDurationSeconds = &none, &one
	l.Spec.RenewTime, l.Spec.AcquireTime = &now, &now
	if _, err := e.leases.Update(ctx, l, metav1.UpdateOptions{}); err != nil {
		e.log.Warn("cannot release lease", zap.Error(fmt.Errorf("release: %w", err)))
	}
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
