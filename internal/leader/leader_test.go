package leader

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// memory is one Lease, with the server's optimistic locking.
type memory struct {
	mu    sync.Mutex // guards what follows
	lease *coordinationv1.Lease
	rev   int
	down  bool
}

var errDown = errors.New("server is down")

func (m *memory) Get(_ context.Context, name string, _ metav1.GetOptions) (*coordinationv1.Lease, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.down:
		return nil, errDown
	case m.lease == nil:
		return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "leases"}, name)
	}
	return m.lease.DeepCopy(), nil
}

func (m *memory) put(l *coordinationv1.Lease) *coordinationv1.Lease {
	m.rev++
	m.lease = l.DeepCopy()
	m.lease.ResourceVersion = strconv.Itoa(m.rev)
	return m.lease.DeepCopy()
}

func (m *memory) Create(_ context.Context, l *coordinationv1.Lease, _ metav1.CreateOptions) (*coordinationv1.Lease, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.lease != nil {
		return nil, apierrors.NewAlreadyExists(schema.GroupResource{Resource: "leases"}, l.Name)
	}
	return m.put(l), nil
}

func (m *memory) Update(_ context.Context, l *coordinationv1.Lease, _ metav1.UpdateOptions) (*coordinationv1.Lease, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.down:
		return nil, errDown
	case l.ResourceVersion != m.lease.ResourceVersion:
		return nil, apierrors.NewConflict(schema.GroupResource{Resource: "leases"}, l.Name, errors.New("changed"))
	}
	return m.put(l), nil
}

func (m *memory) setDown(down bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.down = down
}

func elector(m *memory, id string) *Elector {
	cfg := Defaults("test")
	cfg.Identity = id
	return New(cfg, m, zap.NewNop())
}

// stand runs an elector that leads until its context ends.
func stand(ctx context.Context, e *Elector) (led chan struct{}, done chan error) {
	led, done = make(chan struct{}), make(chan error, 1)
	go func() {
		done <- e.Run(ctx, func(ctx context.Context) error {
			close(led)
			<-ctx.Done()
			return nil
		})
	}()
	return led, done
}

func TestOneLeadsAndHandsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &memory{}
		ctx1, cancel1 := context.WithCancel(t.Context())
		one, two := elector(m, "one"), elector(m, "two")
		led1, done1 := stand(ctx1, one)
		<-led1
		ctx2, cancel2 := context.WithCancel(t.Context())
		led2, done2 := stand(ctx2, two)
		time.Sleep(time.Minute)
		select {
		case <-led2:
			t.Fatal("both lead")
		default:
		}
		if two.Leader() != "one" {
			t.Errorf("two sees the leader %q", two.Leader())
		}
		cancel1()
		if err := <-done1; err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		<-led2
		// A released lease is taken at the next try, not after its duration.
		if waited := time.Since(begin); waited > 6*time.Second {
			t.Errorf("hand-over took %s", waited)
		}
		if n := *m.lease.Spec.LeaseTransitions; n != 1 {
			t.Errorf("%d transitions, want 1", n)
		}
		cancel2()
		<-done2
	})
}

func TestLeadIsLostWhenItCannotBeRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &memory{}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		led, done := stand(ctx, elector(m, "one"))
		<-led
		m.setDown(true)
		begin := time.Now()
		if err := <-done; !errors.Is(err, ErrLost) {
			t.Fatalf("error %v, want ErrLost", err)
		}
		if waited := time.Since(begin); waited > 13*time.Second {
			t.Errorf("gave up after %s, want the renew deadline of 10 s", waited)
		}
	})
}

func TestDeadLeaderIsReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &memory{}
		gone, seconds, at := "gone", int32(15), metav1.NewMicroTime(time.Now())
		m.lease = &coordinationv1.Lease{
			ObjectMeta: metav1.ObjectMeta{ResourceVersion: "7"},
			Spec:       coordinationv1.LeaseSpec{HolderIdentity: &gone, LeaseDurationSeconds: &seconds, RenewTime: &at, AcquireTime: &at},
		}
		ctx, cancel := context.WithCancel(t.Context())
		begin := time.Now()
		led, done := stand(ctx, elector(m, "two"))
		<-led
		if waited := time.Since(begin); waited < 15*time.Second || waited > 22*time.Second {
			t.Errorf("took over after %s, want the lease duration of 15 s and a try", waited)
		}
		cancel()
		<-done
	})
}

func TestValidate(t *testing.T) {
	good := Defaults("test")
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
	for scenario, change := range map[string]func(*Config){
		"no retry period":          func(c *Config) { c.RetryPeriod = 0 },
		"deadline below the retry": func(c *Config) { c.RenewDeadline = c.RetryPeriod },
		"lease below the deadline": func(c *Config) { c.LeaseDuration = c.RenewDeadline },
	} {
		c := Defaults("test")
		change(&c)
		if err := c.Validate(); err == nil {
			t.Errorf("%s: no error", scenario)
		}
	}
}
