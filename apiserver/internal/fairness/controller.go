package fairness

import (
	"context"
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// Config shapes a Controller.
type Config struct {
	// Seats is how many requests the server serves at one time.
	Seats int
	// Wait bounds the time that a request without a deadline waits for its turn.
	Wait time.Duration
}

// Deps are what a Controller works with.
type Deps struct {
	Log      *zap.Logger
	Registry prometheus.Registerer
	Costs    Costs
	// ApplyStatus writes the status of an object, and takes over the fields that it has.
	ApplyStatus func(ctx context.Context, obj runtime.Object) error
}

// Controller decides which requests are served, and when. It is safe for concurrent use.
type Controller struct {
	cfg     Config
	deps    Deps
	metrics *metrics
	// classes are those in force, in the order in which they are tried.
	classes atomic.Pointer[[]*class]
	// changed holds a token while what is in force is not what the API has.
	changed chan struct{}

	mu      sync.Mutex // guards what follows
	configs map[string]*flowcontrolv1.PriorityLevelConfiguration
	schemas map[string]*flowcontrolv1.FlowSchema
	levels  map[string]*level
	// written is when the status of a schema was written of late.
	written map[string][]time.Time
}

// level is a priority level that is in force.
type level struct {
	config *flowcontrolv1.PriorityLevelConfiguration
	share  share
	exempt bool
	drops  drops
	// leaving is whether it is not of the API any more and lives for the requests that it has.
	leaving atomic.Bool

	mu     sync.Mutex // guards what follows
	queues queues
	// The outcomes of requests since the start, for the pages.
	dispatched, rejected, timedOut int
}

// The times that KEP-1040 and upstream go by.
const (
	adjustInterval = 10 * time.Second
	// mostWrites bounds the writes of one schema's status in writesWithin: another server may see it otherwise.
	mostWrites   = 6
	writesWithin = time.Minute
)

// New returns a Controller that knows the mandatory objects alone.
func New(cfg Config, deps Deps) *Controller {
	c := &Controller{
		cfg: cfg, deps: deps, metrics: newMetrics(deps.Registry), changed: make(chan struct{}, 1),
		configs: map[string]*flowcontrolv1.PriorityLevelConfiguration{}, schemas: map[string]*flowcontrolv1.FlowSchema{},
		levels: map[string]*level{}, written: map[string][]time.Time{},
	}
	c.compile(time.Now())
	return c
}

// Set takes in a FlowSchema or a PriorityLevelConfiguration, which must not be changed afterwards.
func (c *Controller) Set(obj runtime.Object) {
	c.note(func() {
		switch o := obj.(type) {
		case *flowcontrolv1.FlowSchema:
			c.schemas[o.Name] = o
		case *flowcontrolv1.PriorityLevelConfiguration:
			c.configs[o.Name] = o
		default:
			panic(fmt.Sprintf("fairness: Set of a %T", obj))
		}
	})
}

// Delete forgets an object; only its type and name matter.
func (c *Controller) Delete(obj runtime.Object) {
	c.note(func() {
		switch o := obj.(type) {
		case *flowcontrolv1.FlowSchema:
			delete(c.schemas, o.Name)
		case *flowcontrolv1.PriorityLevelConfiguration:
			delete(c.configs, o.Name)
		default:
			panic(fmt.Sprintf("fairness: Delete of a %T", obj))
		}
	})
}

func (c *Controller) note(change func()) {
	c.mu.Lock()
	change()
	c.mu.Unlock()
	c.wake()
}

func (c *Controller) wake() {
	select {
	case c.changed <- struct{}{}:
	default:
	}
}

// Run puts into force what the API has, and lets the levels borrow from each other, until ctx ends.
func (c *Controller) Run(ctx context.Context) error {
	adjust := time.NewTicker(adjustInterval)
	defer adjust.Stop()
	var again <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-c.changed:
		case <-again:
		case now := <-adjust.C:
			c.mu.Lock()
			c.adjust(now)
			c.mu.Unlock()
			continue
		}
		again = nil
		c.mu.Lock()
		c.compile(time.Now())
		c.mu.Unlock()
		if !c.writeStatus(ctx, time.Now()) {
			again = time.After(writesWithin / 2)
		}
	}
}

// compile makes levels and classes of the objects. The caller holds the lock, but for New.
func (c *Controller) compile(now time.Time) {
	for _, config := range mandatoryLevels() {
		if c.configs[config.Name] == nil {
			c.level(config, now)
		}
	}
	for _, config := range c.configs {
		if err := usable(config); err != nil {
			c.deps.Log.Warn("a PriorityLevelConfiguration cannot be used", zap.String("name", config.Name), zap.Error(err))
			continue
		}
		c.level(config, now)
	}
	divide(c.shares(), c.cfg.Seats)
	// From here on no request comes to a level that is not of the API, so that one without requests can go.
	classes := c.inForce()
	c.classes.Store(&classes)
	waiting, executing := 0, 0
	for name, l := range c.levels {
		l.leaving.Store(!c.usable(name))
		if l.leaving.Load() && l.idle() {
			delete(c.levels, name)
			c.wake() // the shares are to be divided anew
			continue
		}
		s := shapeOf(l.config)
		waiting += s.queues * s.length
		executing += l.share.nominal
	}
	for _, k := range []*kind{&c.metrics.kinds.reading, &c.metrics.kinds.writing} {
		k.waiting.divideBy(waiting)
		k.executing.divideBy(executing)
	}
	c.adjust(now)
}

// level takes in a configuration.
func (c *Controller) level(config *flowcontrolv1.PriorityLevelConfiguration, now time.Time) {
	l := c.levels[config.Name]
	if l == nil {
		exempt := config.Spec.Exempt != nil
		l = &level{exempt: exempt, queues: queues{exempt: exempt, at: now, served: servedSet{}, gauges: c.metrics.level(config.Name)}}
		c.levels[config.Name] = l
	}
	l.config = config
	l.share.exempt, l.share.borrowing = l.exempt, -1
	var shares, lendable, borrowing *int32
	if e := config.Spec.Exempt; e != nil {
		shares, lendable = e.NominalConcurrencyShares, e.LendablePercent
	} else {
		shares, lendable, borrowing = config.Spec.Limited.NominalConcurrencyShares, config.Spec.Limited.LendablePercent, config.Spec.Limited.BorrowingLimitPercent
	}
	l.share.shares, l.share.lendable = value(shares), value(lendable)
	if borrowing != nil {
		l.share.borrowing = *borrowing
	}
}

func value(p *int32) int32 {
	if p == nil {
		return 0
	}
	return *p
}

// usable says why a configuration cannot be put into force; validation lets none in that cannot.
func usable(p *flowcontrolv1.PriorityLevelConfiguration) error {
	s := &p.Spec
	switch {
	case (s.Type == flowcontrolv1.PriorityLevelEnablementLimited) != (s.Limited != nil), (s.Type == flowcontrolv1.PriorityLevelEnablementExempt) != (s.Exempt != nil):
		return fmt.Errorf("type %s does not go with what is given", s.Type)
	case (s.Exempt != nil) != (p.Name == flowcontrolv1.PriorityLevelConfigurationNameExempt):
		return fmt.Errorf("the level named %s, and no other, is exempt", flowcontrolv1.PriorityLevelConfigurationNameExempt)
	case s.Limited == nil:
		return nil
	case (s.Limited.LimitResponse.Type == flowcontrolv1.LimitResponseTypeQueue) != (s.Limited.LimitResponse.Queuing != nil):
		return fmt.Errorf("limitResponse of type %s does not go with what is given", s.Limited.LimitResponse.Type)
	}
	if q := s.Limited.LimitResponse.Queuing; q != nil && (q.Queues < 1 || q.HandSize < 1 || q.HandSize > min(q.Queues, maxHand)) {
		return fmt.Errorf("a hand of %d of %d queues", q.HandSize, q.Queues)
	}
	return nil
}

func shapeOf(p *flowcontrolv1.PriorityLevelConfiguration) shape {
	if p.Spec.Limited == nil || p.Spec.Limited.LimitResponse.Queuing == nil {
		return shape{}
	}
	q := p.Spec.Limited.LimitResponse.Queuing
	return shape{queues: int(q.Queues), hand: int(q.HandSize), length: int(q.QueueLengthLimit)}
}

// inForce are the classes of the schemas whose level is there, with the mandatory ones where the API has none.
func (c *Controller) inForce() []*class {
	var schemas []*flowcontrolv1.FlowSchema
	for _, s := range c.schemas {
		if c.usable(s.Spec.PriorityLevelConfiguration.Name) {
			schemas = append(schemas, s)
		}
	}
	slices.SortFunc(schemas, order)
	first, last := mandatorySchemas()
	if !slices.ContainsFunc(schemas, func(s *flowcontrolv1.FlowSchema) bool { return s.Name == first.Name }) {
		schemas = slices.Insert(schemas, 0, first)
	}
	// The last is where those go whom no schema matches: it must be there, and be the one for all.
	if i := slices.IndexFunc(schemas, func(s *flowcontrolv1.FlowSchema) bool { return s.Name == last.Name }); i >= 0 {
		last = schemas[i]
	}
	if schemas[len(schemas)-1] != last {
		schemas = append(schemas, last)
	}
	before := map[string]*class{}
	if old := c.classes.Load(); old != nil {
		for _, o := range *old {
			before[o.schema.Name] = o
		}
	}
	classes := make([]*class, len(schemas))
	for i, s := range schemas {
		l := c.levels[s.Spec.PriorityLevelConfiguration.Name]
		classes[i] = &class{
			schema: s, level: l, uid: l.config.UID, widest: widest(l.share.nominal, shapeOf(l.config).hand), metrics: c.metrics.class(l.config.Name, s.Name, l.exempt),
		}
		if o := before[s.Name]; o != nil && o.level == l {
			classes[i].metrics = o.metrics
		}
	}
	return classes
}

// usable says whether a schema may lead to a level.
func (c *Controller) usable(name string) bool {
	config := c.configs[name]
	return c.levels[name] != nil && (config != nil && usable(config) == nil || config == nil && mandatory(name))
}

// shares are those of all levels.
func (c *Controller) shares() []*share {
	out := make([]*share, 0, len(c.levels))
	for _, l := range c.levels {
		out = append(out, &l.share)
	}
	return out
}

// adjust lets the levels borrow from each other by what they needed since the last time.
func (c *Controller) adjust(now time.Time) {
	for _, l := range c.levels {
		l.mu.Lock()
		l.share.demand = l.queues.gauges.demand.demand.take(now)
		l.mu.Unlock()
	}
	c.metrics.fair.Set(adjust(c.shares()))
	for name, l := range c.levels {
		denominator := l.share.current
		if denominator == 0 {
			denominator = int(math.Max(1, math.Round(float64(c.cfg.Seats)/10)))
		}
		s := shapeOf(l.config)
		l.mu.Lock()
		l.queues.change(s, l.share.current, now)
		l.queues.gauges.limits(s, denominator)
		l.mu.Unlock()
		c.metrics.adjusted(name, &l.share)
	}
}

// idle says whether the level has no requests.
func (l *level) idle() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.queues.idle()
}

// writeStatus sets the Dangling conditions that are not as they should be, and says whether none are left.
func (c *Controller) writeStatus(ctx context.Context, now time.Time) (done bool) {
	done = true
	for _, want := range c.staleStatuses(now) {
		if want == nil {
			done = false
			continue
		}
		if err := c.deps.ApplyStatus(ctx, want); err != nil && !apierrors.IsNotFound(err) && ctx.Err() == nil {
			c.deps.Log.Warn("cannot write the status of a FlowSchema", zap.String("name", want.Name), zap.Error(err))
			done = false
		}
	}
	return done
}

// staleStatuses are the schemas whose condition is to be written, with nothing but that; nil in place of those that were written too often.
func (c *Controller) staleStatuses(now time.Time) []*flowcontrolv1.FlowSchema {
	c.mu.Lock()
	defer c.mu.Unlock()
	for name := range c.written {
		if c.schemas[name] == nil {
			delete(c.written, name)
		}
	}
	var out []*flowcontrolv1.FlowSchema
	for name, s := range c.schemas {
		want := dangling(s.Spec.PriorityLevelConfiguration.Name, c.usable(s.Spec.PriorityLevelConfiguration.Name))
		if i := slices.IndexFunc(s.Status.Conditions, func(x flowcontrolv1.FlowSchemaCondition) bool { return x.Type == want.Type }); i >= 0 {
			if have := s.Status.Conditions[i]; have.Status == want.Status && have.Reason == want.Reason && have.Message == want.Message {
				continue
			}
		}
		recent := slices.DeleteFunc(c.written[name], func(t time.Time) bool { return now.Sub(t) > writesWithin })
		if len(recent) >= mostWrites {
			out = append(out, nil)
			continue
		}
		c.written[name] = append(recent, now)
		want.LastTransitionTime = metav1.NewTime(now)
		out = append(out, &flowcontrolv1.FlowSchema{
			ObjectMeta: metav1.ObjectMeta{Name: name}, Status: flowcontrolv1.FlowSchemaStatus{Conditions: []flowcontrolv1.FlowSchemaCondition{want}},
		})
	}
	return out
}

func dangling(level string, found bool) flowcontrolv1.FlowSchemaCondition {
	c := flowcontrolv1.FlowSchemaCondition{
		Type: flowcontrolv1.FlowSchemaConditionDangling, Status: flowcontrolv1.ConditionTrue, Reason: "NotFound",
		Message: fmt.Sprintf("This FlowSchema references the PriorityLevelConfiguration object named %q but there is no such object", level),
	}
	if found {
		c.Status, c.Reason = flowcontrolv1.ConditionFalse, "Found"
		c.Message = fmt.Sprintf("This FlowSchema references the PriorityLevelConfiguration object named %q and it exists", level)
	}
	return c
}
