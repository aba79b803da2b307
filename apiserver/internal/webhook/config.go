package webhook

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/cel-go/cel"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"flagship/apiserver/internal/admission"
	"flagship/apiserver/internal/authz"
	"flagship/apiserver/internal/expression"
	"flagship/apiserver/internal/hook"
	"flagship/apiserver/internal/match"
)

// API is where the configurations are, and what converts objects for webhooks
// that want another version.
type API interface {
	Changed(gvr schema.GroupVersionResource) int64
	Each(gvr schema.GroupVersionResource, namespace string, visit func(runtime.Object) bool) error
	ConvertTo(obj runtime.Object, from, to schema.GroupVersionResource) (runtime.Object, error)
}

// Caller calls webhooks.
type Caller interface {
	Call(ctx context.Context, t hook.Target, in, out any) error
}

// Deps is what the plugins stand on.
type Deps struct {
	API         API
	Caller      Caller
	Matcher     *match.Matcher
	Expressions *expression.Compiler
	Authorizer  authz.Authorizer
	// Metrics observe the calls, nil for none.
	Metrics *admission.Metrics
}

// webhook is one webhook of a configuration, ready to be called.
type webhook struct {
	name, configuration string
	// static ones are of a file: their configuration has no UID.
	static     bool
	target     hook.Target
	selection  match.Selection
	ignore     bool // failurePolicy
	quiet      bool // no side effects, at least on a dry run
	timeout    time.Duration
	version    string // of the AdmissionReview, empty where none is known
	reinvoke   bool
	conditions []condition
	err        error // why it cannot be called
}

type condition struct {
	name    string
	program *expression.Program
}

func (w *webhook) isStatic() bool { return w.static }

// uid names a webhook in a request's second round.
func (w *webhook) uid() string { return w.configuration + "/" + w.name }

// source keeps the webhooks of one resource of configurations.
type source struct {
	deps *Deps
	gvr  schema.GroupVersionResource

	mu       sync.Mutex // guards what follows
	at       int64
	webhooks []*webhook
}

// list returns the webhooks in the order of their configurations' names, those of files first.
func (s *source) list() ([]*webhook, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := s.deps.API.Changed(s.gvr)
	if at == s.at {
		return s.webhooks, nil
	}
	var out []*webhook
	err := s.deps.API.Each(s.gvr, "", func(obj runtime.Object) bool {
		switch c := obj.(type) {
		case *admissionregistrationv1.MutatingWebhookConfiguration:
			for i := range c.Webhooks {
				h := &c.Webhooks[i]
				w := s.compile(c.Name, h.Name, &h.ClientConfig, h.Rules, h.FailurePolicy, h.MatchPolicy, h.SideEffects, h.TimeoutSeconds, h.AdmissionReviewVersions, h.MatchConditions)
				w.selectors(h.NamespaceSelector, h.ObjectSelector)
				w.static = c.UID == ""
				w.reinvoke = h.ReinvocationPolicy != nil && *h.ReinvocationPolicy == admissionregistrationv1.IfNeededReinvocationPolicy
				out = append(out, w)
			}
		case *admissionregistrationv1.ValidatingWebhookConfiguration:
			for i := range c.Webhooks {
				h := &c.Webhooks[i]
				w := s.compile(c.Name, h.Name, &h.ClientConfig, h.Rules, h.FailurePolicy, h.MatchPolicy, h.SideEffects, h.TimeoutSeconds, h.AdmissionReviewVersions, h.MatchConditions)
				w.selectors(h.NamespaceSelector, h.ObjectSelector)
				w.static = c.UID == ""
				out = append(out, w)
			}
		}
		return true
	})
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", s.gvr.Resource, err)
	}
	slices.SortStableFunc(out, func(a, b *webhook) int {
		if a.static != b.static {
			return map[bool]int{true: -1, false: 1}[a.static]
		}
		return strings.Compare(a.configuration, b.configuration)
	})
	s.webhooks, s.at = out, at
	return out, nil
}

func (s *source) compile(configuration, name string, client *admissionregistrationv1.WebhookClientConfig, rules []admissionregistrationv1.RuleWithOperations,
	failure *admissionregistrationv1.FailurePolicyType, policy *admissionregistrationv1.MatchPolicyType, effects *admissionregistrationv1.SideEffectClass,
	seconds *int32, versions []string, conditions []admissionregistrationv1.MatchCondition,
) *webhook {
	w := &webhook{name: name, configuration: configuration, target: hook.Target{CABundle: client.CABundle}, timeout: 10 * time.Second}
	if client.URL != nil {
		w.target.URL = *client.URL
	}
	if c := client.Service; c != nil {
		w.target.Service = &hook.Service{Namespace: c.Namespace, Name: c.Name, Port: 443}
		if c.Port != nil {
			w.target.Service.Port = *c.Port
		}
		if c.Path != nil {
			w.target.Service.Path = *c.Path
		}
	}
	for _, r := range rules {
		w.selection.Rules = append(w.selection.Rules, match.Rule{RuleWithOperations: r})
	}
	w.selection.Equivalent = policy != nil && *policy == admissionregistrationv1.Equivalent
	w.ignore = failure != nil && *failure == admissionregistrationv1.Ignore
	w.quiet = effects != nil && (*effects == admissionregistrationv1.SideEffectClassNone || *effects == admissionregistrationv1.SideEffectClassNoneOnDryRun)
	if seconds != nil {
		w.timeout = time.Duration(*seconds) * time.Second
	}
	for _, v := range versions {
		if v == "v1" || v == "v1beta1" {
			w.version = v
			break
		}
	}
	for _, c := range conditions {
		w.conditions = append(w.conditions, condition{c.Name, s.deps.Expressions.Simple().Compile(c.Expression, expression.Options{Authorizer: true}, cel.BoolType)})
	}
	return w
}

// relevant is whether a webhook is to be called, and how it sees the request.
func (d *Deps) relevant(ctx context.Context, w *webhook, a *admission.Attributes) (*call, error) {
	if w.err != nil {
		return nil, w.err
	}
	t, err := d.Matcher.Match(ctx, &w.selection, a)
	if err != nil || t == nil {
		return nil, err
	}
	c := &call{webhook: w, target: *t}
	if c.object, err = d.API.ConvertTo(a.Object, a.Resource, t.Resource); err != nil {
		return nil, err
	}
	if c.old, err = d.API.ConvertTo(a.OldObject, a.Resource, t.Resource); err != nil {
		return nil, err
	}
	if len(w.conditions) == 0 {
		return c, nil
	}
	ok, err := d.conditionsHold(ctx, c, a)
	if err != nil || !ok {
		return nil, err
	}
	return c, nil
}
