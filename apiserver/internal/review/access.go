package review

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
	"k8s.io/apimachinery/pkg/util/cache"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	authorizationcel "k8s.io/apiserver/pkg/authorization/cel"

	"flagship/apiserver/internal/authn"
	"flagship/apiserver/internal/authz"
)

// AccessConfig is one server that authorizes.
type AccessConfig struct {
	// Name is by what the metrics tell it from others.
	Name   string
	Client *Client
	// Version is that of the SubjectAccessReviews.
	Version string
	// AuthorizedTTL and UnauthorizedTTL are how long its answers are kept; 0 is not at all.
	AuthorizedTTL, UnauthorizedTTL time.Duration
	// OnError is the decision where it cannot be asked.
	OnError authz.Decision
	// Match says which requests it is asked about, nil for all.
	Match *authorizationcel.CELMatcher
}

// Access authorizes as a server says.
type Access struct {
	cfg     AccessConfig
	kind    metav1.TypeMeta
	answers *cache.LRUExpireCache
	metrics *Metrics
}

// Bounds of the answers that are kept, as upstream's: how many, and the bytes of a request that its sender chooses.
const (
	maxAnswers = 8192
	maxKey     = 10000
)

// NewAccess asks by SubjectAccessReviews.
//
// Errors: the version is not one of Versions.
func NewAccess(cfg AccessConfig, m *Metrics) (*Access, error) {
	if err := checkVersion(cfg.Version); err != nil {
		return nil, err
	}
	kind := metav1.TypeMeta{Kind: "SubjectAccessReview", APIVersion: authorizationv1.GroupName + "/" + cfg.Version}
	return &Access{cfg: cfg, kind: kind, answers: cache.NewLRUExpireCache(maxAnswers), metrics: m}, nil
}

// betaSpec is a spec of v1beta1, which has another name for the groups.
type betaSpec struct {
	authorizationv1.SubjectAccessReviewSpec
	Groups []string `json:"groups,omitempty"` // never set: it hides v1's
	Group  []string `json:"group,omitempty"`
}

// asked is a review to be sent.
type asked struct {
	metav1.TypeMeta `json:",inline"`
	Metadata        struct{} `json:"metadata"`
	Spec            any      `json:"spec"`
	Status          struct {
		Allowed bool `json:"allowed"`
	} `json:"status"`
}

// Authorize implements authz.Authorizer.
func (a *Access) Authorize(ctx context.Context, at authz.Attributes) (authz.Decision, string, error) {
	spec := specOf(at)
	if a.cfg.Match != nil {
		ok, err := a.cfg.Match.Eval(ctx, &authorizationv1.SubjectAccessReview{Spec: spec})
		if err != nil {
			return a.cfg.OnError, "", err
		}
		if !ok {
			return authz.NoOpinion, "", nil
		}
	}
	key, err := json.Marshal(spec)
	if err != nil {
		return a.cfg.OnError, "", err
	}
	if kept, ok := a.answers.Get(string(key)); ok {
		return decide(kept.(authorizationv1.SubjectAccessReviewStatus))
	}
	status, err := a.ask(ctx, spec)
	if err != nil {
		return a.cfg.OnError, "", err
	}
	if chosen(at) < maxKey {
		ttl := a.cfg.UnauthorizedTTL
		if status.Allowed {
			ttl = a.cfg.AuthorizedTTL
		}
		if ttl > 0 {
			a.answers.Add(string(key), status, ttl)
		}
	}
	return decide(status)
}

func (a *Access) ask(ctx context.Context, spec authorizationv1.SubjectAccessReviewSpec) (authorizationv1.SubjectAccessReviewStatus, error) {
	in := asked{TypeMeta: a.kind, Spec: spec}
	if a.cfg.Version == "v1beta1" {
		in.Spec = betaSpec{SubjectAccessReviewSpec: spec, Group: spec.Groups}
	}
	// What is read of an answer has the same form in both versions.
	var out struct {
		Status authorizationv1.SubjectAccessReviewStatus `json:"status"`
	}
	result := ""
	err := a.cfg.Client.Post(ctx, &in, &out, a.kind, func(status int, took time.Duration, err error) {
		result = outcome(ctx, status, err)
		a.metrics.evaluated(a.cfg.Name, result, took)
	})
	if err != nil && a.cfg.OnError == authz.NoOpinion && ctx.Err() == nil {
		a.metrics.failedOpen(a.cfg.Name, result)
	}
	return out.Status, err
}

func outcome(ctx context.Context, status int, err error) string {
	switch {
	case err == nil:
		return "success"
	case ctx.Err() != nil:
		return "canceled"
	case utilnet.IsTimeout(err) || errors.Is(err, context.DeadlineExceeded) || apierrors.IsTimeout(err) || status == http.StatusGatewayTimeout:
		return "timeout"
	}
	return "error"
}

func decide(s authorizationv1.SubjectAccessReviewStatus) (authz.Decision, string, error) {
	switch {
	case s.Denied && s.Allowed:
		return authz.Deny, s.Reason, errors.New("webhook subject access review returned both allow and deny response")
	case s.Denied:
		return authz.Deny, s.Reason, nil
	case s.Allowed:
		return authz.Allow, s.Reason, nil
	}
	return authz.NoOpinion, s.Reason, nil
}

// RulesFor implements authz.RuleResolver: nobody can list what another server allows.
func (a *Access) RulesFor(*authn.Identity, string) (authz.Rules, error) {
	return authz.Rules{Incomplete: true}, errors.New("webhook authorizer does not support user rule resolution")
}

// chosen is how many bytes of a request its sender chose.
func chosen(a authz.Attributes) int {
	return len(a.Namespace) + len(a.Verb) + len(a.APIGroup) + len(a.APIVersion) + len(a.Resource) + len(a.Subresource) + len(a.Name) + len(a.Path)
}

func specOf(a authz.Attributes) authorizationv1.SubjectAccessReviewSpec {
	var s authorizationv1.SubjectAccessReviewSpec
	if u := a.User; u != nil {
		s.User, s.UID, s.Groups = u.Name, u.UID, u.Groups
		if u.Extra != nil {
			s.Extra = make(map[string]authorizationv1.ExtraValue, len(u.Extra))
			for k, v := range u.Extra {
				s.Extra[k] = v
			}
		}
	}
	if !a.ResourceRequest {
		s.NonResourceAttributes = &authorizationv1.NonResourceAttributes{Path: a.Path, Verb: a.Verb}
		return s
	}
	r := &authorizationv1.ResourceAttributes{
		Namespace: a.Namespace, Verb: a.Verb, Group: a.APIGroup, Version: a.APIVersion, Resource: a.Resource, Subresource: a.Subresource, Name: a.Name,
	}
	if list := fieldRequirements(a.Fields); len(list) > 0 {
		r.FieldSelector = &authorizationv1.FieldSelectorAttributes{Requirements: list}
	}
	if list := labelRequirements(a.Labels); len(list) > 0 {
		r.LabelSelector = &authorizationv1.LabelSelectorAttributes{Requirements: list}
	}
	s.ResourceAttributes = r
	return s
}

// fieldRequirements and labelRequirements leave out what the review cannot say. Requirements only narrow, so that more
// is asked for than is done.
func fieldRequirements(list fields.Requirements) []metav1.FieldSelectorRequirement {
	var out []metav1.FieldSelectorRequirement
	for _, r := range list {
		op := metav1.FieldSelectorOpIn
		switch r.Operator {
		case selection.Equals, selection.DoubleEquals, selection.In:
		case selection.NotEquals, selection.NotIn:
			op = metav1.FieldSelectorOpNotIn
		default:
			continue
		}
		out = append(out, metav1.FieldSelectorRequirement{Key: r.Field, Operator: op, Values: []string{r.Value}})
	}
	return out
}

func labelRequirements(list labels.Requirements) []metav1.LabelSelectorRequirement {
	var out []metav1.LabelSelectorRequirement
	for _, r := range list {
		q := metav1.LabelSelectorRequirement{Key: r.Key()}
		if v := r.ValuesUnsorted(); len(v) > 0 {
			q.Values = v
		}
		switch r.Operator() {
		case selection.Equals, selection.DoubleEquals, selection.In:
			q.Operator = metav1.LabelSelectorOpIn
		case selection.NotEquals, selection.NotIn:
			q.Operator = metav1.LabelSelectorOpNotIn
		case selection.Exists:
			q.Operator = metav1.LabelSelectorOpExists
		case selection.DoesNotExist:
			q.Operator = metav1.LabelSelectorOpDoesNotExist
		default:
			continue
		}
		out = append(out, q)
	}
	return out
}
