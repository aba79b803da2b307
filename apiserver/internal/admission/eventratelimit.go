package admission

import (
	"context"
	"fmt"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/client-go/util/flowcontrol"
	"k8s.io/utils/lru"
)

// EventRateLimit refuses events that come too fast, with a 429. It is off unless --enable-admission-plugins names it.
type EventRateLimit struct {
	operations
	limits []*eventLimit
}

// eventLimit is a limit of the configuration: a bucket for each key.
type eventLimit struct {
	Type      string `json:"type"`
	QPS       int32  `json:"qps"`
	Burst     int32  `json:"burst"`
	CacheSize int32  `json:"cacheSize"`

	mu      sync.Mutex // guards buckets: a key gets one bucket
	buckets *lru.Cache
}

// eventLimitTypes are the keys by which events are counted.
var eventLimitTypes = map[string]func(*Attributes) string{
	"Server":    func(*Attributes) string { return "" },
	"Namespace": func(a *Attributes) string { return a.Namespace },
	"User":      func(a *Attributes) string { return a.User.Name },
	"SourceAndObject": func(a *Attributes) string {
		e, ok := a.Object.(*corev1.Event)
		if !ok {
			return ""
		}
		o := &e.InvolvedObject
		return strings.Join([]string{e.Source.Component, e.Source.Host, o.Kind, o.Namespace, o.Name, string(o.UID), o.APIVersion}, "")
	},
}

// defaultBuckets bounds a limit's buckets where its configuration does not.
const defaultBuckets = 4096

func (f Files) eventLimits() ([]*eventLimit, error) {
	var c struct {
		Limits []*eventLimit `json:"limits"`
	}
	if err := f.decode("EventRateLimit", "eventratelimit.admission.k8s.io/v1alpha1", &c); err != nil {
		return nil, err
	}
	var errs field.ErrorList
	p := field.NewPath("limits")
	if f["EventRateLimit"] != nil && len(c.Limits) == 0 {
		errs = append(errs, field.Invalid(p, "", "must not be empty"))
	}
	for i, l := range c.Limits {
		at := p.Index(i)
		if eventLimitTypes[l.Type] == nil {
			errs = append(errs, field.NotSupported(at.Child("type"), l.Type, []string{"Namespace", "Server", "SourceAndObject", "User"}))
		}
		if l.Burst <= 0 {
			errs = append(errs, field.Invalid(at.Child("burst"), l.Burst, "must be positive"))
		}
		if l.QPS <= 0 {
			errs = append(errs, field.Invalid(at.Child("qps"), l.QPS, "must be positive"))
		}
		if l.CacheSize < 0 && l.Type != "Server" {
			errs = append(errs, field.Invalid(at.Child("cacheSize"), l.CacheSize, "must not be negative"))
		}
		size := int(l.CacheSize)
		if size <= 0 {
			size = defaultBuckets
		}
		l.buckets = lru.New(size)
	}
	if len(errs) > 0 {
		return nil, fmt.Errorf("EventRateLimit: %w", errs.ToAggregate())
	}
	return c.Limits, nil
}

// accept takes one event out of its bucket.
func (l *eventLimit) accept(a *Attributes) error {
	key := eventLimitTypes[l.Type](a)
	l.mu.Lock()
	bucket, ok := l.buckets.Get(key)
	if !ok {
		bucket = flowcontrol.NewTokenBucketRateLimiter(float32(l.QPS), int(l.Burst))
		l.buckets.Add(key, bucket)
	}
	l.mu.Unlock()
	if bucket.(flowcontrol.RateLimiter).TryAccept() {
		return nil
	}
	return fmt.Errorf("limit reached on type %v for key %v", l.Type, key)
}

// Validate implements Validator.
func (p *EventRateLimit) Validate(_ context.Context, a *Attributes) error {
	// Those of events.k8s.io are not limited; upstream's are not either.
	if a.DryRun || a.Kind.Kind != "Event" || a.Kind.Group != "" {
		return nil
	}
	var errs []error
	for _, l := range p.limits {
		if err := l.accept(a); err != nil {
			errs = append(errs, err)
		}
	}
	if err := utilerrors.NewAggregate(errs); err != nil {
		return apierrors.NewTooManyRequestsError(err.Error())
	}
	return nil
}
