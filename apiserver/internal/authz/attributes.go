package authz

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"

	"flagship/apiserver/internal/authn"
)

// Attributes is what is known of a request when it is authorized.
type Attributes struct {
	User *authn.Identity
	Verb string

	ResourceRequest                    bool
	Namespace                          string // empty for the cluster scope
	APIGroup, APIVersion               string
	Resource, Subresource, Name        string
	Fields                             fields.Requirements // of a list, watch or deletecollection
	Labels                             labels.Requirements
	FieldSelectorErr, LabelSelectorErr error

	Path string // if not a ResourceRequest
}

// Decision is an authorizer's answer.
type Decision int

// NoOpinion leaves the word to the next authorizer.
const (
	NoOpinion Decision = iota
	Allow
	Deny
)

// Authorizer decides. An error beside NoOpinion says why the answer may be incomplete.
type Authorizer interface {
	Authorize(ctx context.Context, a Attributes) (d Decision, reason string, err error)
}

// Named is an authorizer, and what its reasons are told by.
type Named struct {
	Name string
	Authorizer
}

// Union asks its authorizers in order.
type Union []Named

// Authorize implements Authorizer.
func (u Union) Authorize(ctx context.Context, a Attributes) (Decision, string, error) {
	var reasons []string
	var errs []error
	for _, z := range u {
		d, reason, err := z.Authorize(ctx, a)
		if err != nil {
			errs = append(errs, err)
		}
		if reason != "" {
			reasons = append(reasons, z.Name+": "+reason)
		}
		if d != NoOpinion {
			return d, reason, err
		}
	}
	return NoOpinion, strings.Join(reasons, "\n"), utilerrors.NewAggregate(errs)
}

// Superusers allows members of the groups anything.
type Superusers []string

// Authorize implements Authorizer.
func (s Superusers) Authorize(_ context.Context, a Attributes) (Decision, string, error) {
	for _, g := range s {
		if a.User.InGroup(g) {
			return Allow, "", nil
		}
	}
	return NoOpinion, "", nil
}

// Always gives the same answer to everything.
type Always Decision

// Authorize implements Authorizer.
func (d Always) Authorize(context.Context, Attributes) (Decision, string, error) {
	if Decision(d) == Allow {
		return Allow, "", nil
	}
	return NoOpinion, "Everything is forbidden.", nil
}

// Paths allows anybody the paths of --authorization-always-allow-paths; a trailing * allows what has the prefix.
type Paths []string

// Authorize implements Authorizer.
func (p Paths) Authorize(_ context.Context, a Attributes) (Decision, string, error) {
	if !a.ResourceRequest && slices.ContainsFunc(p, func(path string) bool { return pathMatches(path, a.Path) }) {
		return Allow, "", nil
	}
	return NoOpinion, "", nil
}

func pathMatches(rule, path string) bool {
	if prefix, ok := strings.CutSuffix(rule, "*"); ok {
		return strings.HasPrefix(path, prefix)
	}
	return rule == path
}

// ForbiddenMessage says what the user may not do.
func ForbiddenMessage(a Attributes) string {
	name := ""
	if a.User != nil {
		name = a.User.Name
	}
	if !a.ResourceRequest {
		return fmt.Sprintf("User %q cannot %s path %q", name, a.Verb, a.Path)
	}
	resource := a.Resource
	if a.Subresource != "" {
		resource += "/" + a.Subresource
	}
	if a.Namespace != "" {
		return fmt.Sprintf("User %q cannot %s resource %q in API group %q in the namespace %q", name, a.Verb, resource, a.APIGroup, a.Namespace)
	}
	return fmt.Sprintf("User %q cannot %s resource %q in API group %q at the cluster scope", name, a.Verb, resource, a.APIGroup)
}

// plain keeps markup of clients out of what they are told.
var plain = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;")

// Forbidden is the 403 Status of a request that was not allowed.
func Forbidden(a Attributes, reason string) *apierrors.StatusError {
	msg := plain.Replace(ForbiddenMessage(a))
	if reason != "" {
		msg += ": " + reason
	}
	return apierrors.NewForbidden(schema.GroupResource{Group: a.APIGroup, Resource: a.Resource}, a.Name, errors.New(msg))
}
