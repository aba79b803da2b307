package authz

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	authenticationv1 "k8s.io/api/authentication/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/lru"

	"flagship/apiserver/internal/authn"
)

// Impersonator decides who may act as whom. Constrained impersonation, KEP-5284, is tried before the one that allows everything to be done as
// somebody: by its modes one may act as a node, as a service account or as another user for some requests alone.
type Impersonator struct {
	authorizer Authorizer
	metrics    *impersonationMetrics
	// last is the mode that a requester was last allowed by, which is tried first.
	last *lru.Cache
}

// maxImpersonators bounds the requesters whose mode is remembered.
const maxImpersonators = 10_000

// NewImpersonator returns one that asks an authorizer.
func NewImpersonator(a Authorizer, reg prometheus.Registerer) *Impersonator {
	return &Impersonator{authorizer: a, metrics: newImpersonationMetrics(reg), last: lru.New(maxImpersonators)}
}

// mode is a way to act as somebody. fits says whether it is for such a pair; it is nil for the old way, which has no name.
type mode struct {
	name string
	fits func(want, requester *authn.Identity) bool
}

// The modes in the order in which they are tried.
var modes = []mode{
	{"associated-node", func(want, requester *authn.Identity) bool {
		node, ok := authn.NodeOf(want.Name)
		_, _, account := authn.SplitServiceAccount(requester.Name)
		on := requester.Extra[authn.NodeNameKey]
		return ok && account && nameOnly(want) && len(on) == 1 && on[0] == node
	}},
	{"arbitrary-node", func(want, _ *authn.Identity) bool {
		_, ok := authn.NodeOf(want.Name)
		return ok && nameOnly(want)
	}},
	{"serviceaccount", func(want, _ *authn.Identity) bool {
		_, _, ok := authn.SplitServiceAccount(want.Name)
		return ok && nameOnly(want)
	}},
	{"user-info", func(want, _ *authn.Identity) bool {
		_, node := authn.NodeOf(want.Name)
		_, _, account := authn.SplitServiceAccount(want.Name)
		return !node && !account
	}},
	{},
}

func nameOnly(want *authn.Identity) bool {
	return want.UID == "" && len(want.Groups) == 0 && len(want.Extra) == 0
}

// As returns whom a request is made as, who wants to be another, and by which verb that was allowed (empty for the old way). The error is a Status; it
// is that of the first mode that fits.
func (m *Impersonator) As(ctx context.Context, want *authn.Identity, at Attributes) (*authn.Identity, string, error) {
	start := time.Now()
	id, constraint, err := m.as(ctx, want, at)
	m.metrics.attempt(constraint, err == nil, time.Since(start))
	return id, constraint, err
}

func (m *Impersonator) as(ctx context.Context, want *authn.Identity, at Attributes) (*authn.Identity, string, error) {
	order := make([]int, 0, len(modes)+1)
	if i, ok := m.last.Get(at.User.Name); ok {
		order = append(order, i.(int))
	}
	for i := range modes {
		if len(order) == 0 || order[0] != i {
			order = append(order, i)
		}
	}
	var failure error
	for _, i := range order {
		if modes[i].fits != nil && !modes[i].fits(want, at.User) {
			continue
		}
		t := &attempt{m: m, mode: modes[i].name, requester: at.User, want: want}
		id, err := t.identity(ctx, at)
		if err == nil {
			m.last.Add(at.User.Name, i)
			return id, t.constraint(), nil
		}
		if failure == nil {
			failure = err
		}
	}
	return nil, "", failure
}

// attempt is to act as somebody by one mode.
type attempt struct {
	m               *Impersonator
	mode            string
	requester, want *authn.Identity
}

func (t *attempt) constraint() string {
	if t.mode == "" {
		return ""
	}
	return t.verb()
}

func (t *attempt) verb() string {
	if t.mode == "" {
		return "impersonate"
	}
	return "impersonate:" + t.mode
}

// identity asks for all that is needed, and returns who it is then.
func (t *attempt) identity(ctx context.Context, at Attributes) (*authn.Identity, error) {
	if t.mode != "" {
		// Whether this very request may be made as somebody.
		at.Verb = "impersonate-on:" + t.mode + ":" + at.Verb
		if err := t.check(ctx, at); err != nil {
			return nil, err
		}
	}
	id := *t.want
	if err := t.name(ctx, &id); err != nil {
		return nil, err
	}
	if t.want.UID != "" {
		if err := t.check(ctx, t.of("uids", true, t.want.UID)); err != nil {
			return nil, err
		}
	}
	if err := t.groups(ctx); err != nil {
		return nil, err
	}
	if err := t.extra(ctx); err != nil {
		return nil, err
	}
	id.Groups = impersonatedGroups(id.Name, id.Groups)
	return &id, nil
}

// many is how many checks are made after one for all of them.
const many = 4

func (t *attempt) name(ctx context.Context, id *authn.Identity) error {
	a := t.of("users", t.mode != "", t.want.Name)
	if node, ok := authn.NodeOf(t.want.Name); ok && t.mode != "" {
		a.Resource, a.Name = "nodes", node
		id.Groups = []string{authn.NodesGroup}
	}
	if namespace, name, ok := authn.SplitServiceAccount(t.want.Name); ok {
		a.Resource, a.Namespace, a.Name = "serviceaccounts", namespace, name
		if len(t.want.Groups) == 0 {
			id.Groups = authn.ServiceAccountGroups(namespace)
		}
	}
	return t.check(ctx, a)
}

func (t *attempt) groups(ctx context.Context) error {
	a := t.of("groups", t.mode != "", "")
	if t.mode != "" {
		switch {
		case slices.Contains(t.want.Groups, ""):
			return Forbidden(a, "impersonating the empty string group is not allowed")
		case slices.Contains(t.want.Groups, authn.PrivilegedGroup):
			a.Name = authn.PrivilegedGroup
			return Forbidden(a, "impersonating the system:masters group is not allowed")
		}
		if a.Name = "*"; len(t.want.Groups) >= many && t.check(ctx, a) == nil {
			return nil
		}
	}
	for _, g := range t.want.Groups {
		a.Name = g
		if err := t.check(ctx, a); err != nil {
			return err
		}
	}
	return nil
}

func (t *attempt) extra(ctx context.Context) error {
	a := t.of("userextras", true, "")
	count := 0
	for _, values := range t.want.Extra {
		count += len(values)
	}
	if t.mode != "" {
		if err := validateExtra(t.want.Extra); err != nil {
			return Forbidden(a, err.Error())
		}
		if a.Subresource, a.Name = "*", "*"; (len(t.want.Extra) >= many || count >= many) && t.check(ctx, a) == nil {
			return nil
		}
	}
	for _, key := range slices.Sorted(maps.Keys(t.want.Extra)) {
		a.Subresource = key
		for _, v := range t.want.Extra[key] {
			a.Name = v
			if err := t.check(ctx, a); err != nil {
				return err
			}
		}
	}
	return nil
}

func validateExtra(extra map[string][]string) error {
	for key, values := range extra {
		switch err := utilvalidation.IsDomainPrefixedPath(field.NewPath("extra", "key"), key).ToAggregate(); {
		case key == "":
			return errors.New("impersonating the empty string key in extra is not allowed")
		case err != nil:
			return fmt.Errorf("impersonating an invalid key in extra is not allowed: %w", err)
		case key != strings.ToLower(key):
			return fmt.Errorf("impersonating a non-lowercase key in extra is not allowed: %q", key)
		case len(values) == 0:
			return errors.New("impersonating empty values in extra is not allowed")
		case slices.Contains(values, ""):
			return errors.New("impersonating the empty string value in extra is not allowed")
		}
	}
	return nil
}

// of is what is asked about something that is impersonated. Users and groups were of the core group before the modes.
func (t *attempt) of(resource string, authentication bool, name string) Attributes {
	a := Attributes{User: t.requester, Verb: t.verb(), Resource: resource, Name: name, ResourceRequest: true, APIVersion: "v1"}
	if authentication {
		a.APIGroup = authenticationv1.GroupName
	}
	return a
}

// check asks the authorizer. The agent of a node is the same to it on each: its checks are for all nodes, by a service account without what tells its pods
// apart.
func (t *attempt) check(ctx context.Context, a Attributes) error {
	if t.mode == modes[0].name {
		who := *a.User
		who.Extra = map[string][]string{"authentication.kubernetes.io/associated-node-keys": slices.Sorted(maps.Keys(a.User.Extra))}
		a.User = &who
		if a.Verb == t.verb() {
			a.Name = "*"
		}
	}
	start := time.Now()
	d, reason, err := t.m.authorizer.Authorize(ctx, a)
	t.m.metrics.check(t.mode, d == Allow, time.Since(start))
	switch {
	case d == Allow:
		return nil
	case apierrors.IsForbidden(err):
		return err
	case err != nil && reason != "":
		reason = fmt.Sprintf("%v: %s", err, reason)
	case err != nil:
		reason = err.Error()
	}
	return Forbidden(a, reason)
}

// impersonatedGroups adds the group that says whether a user is authenticated, unless it is named.
func impersonatedGroups(name string, groups []string) []string {
	add := authn.AllAuthenticated
	if name == authn.Anonymous {
		add = authn.AllUnauthenticated
	} else if slices.Contains(groups, authn.AllUnauthenticated) {
		return groups
	}
	if slices.Contains(groups, add) {
		return groups
	}
	return append(slices.Clone(groups), add)
}

// impersonationMetrics are upstream's.
type impersonationMetrics struct {
	attempts, checks       *prometheus.CounterVec
	attemptTime, checkTime *prometheus.HistogramVec
}

func newImpersonationMetrics(reg prometheus.Registerer) *impersonationMetrics {
	counter := func(name, help string) *prometheus.CounterVec {
		v := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "apiserver", Subsystem: "impersonation", Name: name, Help: help}, []string{"mode", "decision"})
		reg.MustRegister(v)
		return v
	}
	histogram := func(name, help string) *prometheus.HistogramVec {
		v := prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "apiserver", Subsystem: "impersonation", Name: name, Help: help, Buckets: prometheus.ExponentialBuckets(0.001, 2, 15),
		}, []string{"mode", "decision"})
		reg.MustRegister(v)
		return v
	}
	return &impersonationMetrics{
		attempts:    counter("attempts_total", "[ALPHA] Total number of impersonation attempts split by mode and decision."),
		attemptTime: histogram("attempts_duration_seconds", "[ALPHA] Latency of impersonation attempts in seconds split by mode and decision."),
		checks:      counter("authorization_attempts_total", "[ALPHA] Total number of authorization checks made by the impersonation handler split by mode and decision."),
		checkTime:   histogram("authorization_attempts_duration_seconds", "[ALPHA] Latency of authorization checks made by the impersonation handler in seconds split by mode and decision."),
	}
}

func labelsOf(mode string, allowed bool) (string, string) {
	decision := "denied"
	if allowed {
		decision = "allowed"
	}
	if mode == "" {
		mode = "legacy"
	}
	return mode, decision
}

func (m *impersonationMetrics) attempt(constraint string, allowed bool, took time.Duration) {
	mode, decision := labelsOf(strings.TrimPrefix(constraint, "impersonate:"), allowed)
	if !allowed {
		mode = ""
	}
	m.attempts.WithLabelValues(mode, decision).Inc()
	m.attemptTime.WithLabelValues(mode, decision).Observe(took.Seconds())
}

func (m *impersonationMetrics) check(mode string, allowed bool, took time.Duration) {
	mode, decision := labelsOf(mode, allowed)
	m.checks.WithLabelValues(mode, decision).Inc()
	m.checkTime.WithLabelValues(mode, decision).Observe(took.Seconds())
}
