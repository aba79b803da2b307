package audit

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
	"sigs.k8s.io/yaml"

	"flagship/apiserver/internal/authz"
)

// Policy says what is told of which requests.
type Policy struct{ policy auditv1.Policy }

// Rule is what a policy says of one request.
type Rule struct {
	Level             auditv1.Level
	OmitStages        []auditv1.Stage
	OmitManagedFields bool
}

var (
	levels = []auditv1.Level{auditv1.LevelNone, auditv1.LevelMetadata, auditv1.LevelRequest, auditv1.LevelRequestResponse}
	stages = []auditv1.Stage{auditv1.StageRequestReceived, auditv1.StageResponseStarted, auditv1.StageResponseComplete, auditv1.StagePanic}
)

// LoadPolicy reads a policy's file. strange is what in it is not known, and left out, as upstream does.
//
// Errors: the file cannot be read, or says something else.
func LoadPolicy(path string) (p *Policy, strange, err error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, err
	}
	p, strange, err = ParsePolicy(data)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	return p, strange, nil
}

// ParsePolicy reads a policy.
func ParsePolicy(data []byte) (p *Policy, strange, err error) {
	p = &Policy{}
	if strange = yaml.UnmarshalStrict(data, &p.policy); strange != nil {
		p = &Policy{}
		if err := yaml.Unmarshal(data, &p.policy); err != nil {
			return nil, nil, err
		}
	}
	if p.policy.APIVersion != auditv1.SchemeGroupVersion.String() || p.policy.Kind != "Policy" {
		return nil, nil, fmt.Errorf("it is of apiVersion %q and kind %q, not of %s and Policy", p.policy.APIVersion, p.policy.Kind, auditv1.SchemeGroupVersion)
	}
	if errs := validatePolicy(&p.policy); len(errs) > 0 {
		return nil, nil, errs.ToAggregate()
	}
	if len(p.policy.Rules) == 0 {
		return nil, nil, errors.New("a policy needs a rule")
	}
	// A rule may leave out more stages than the whole policy.
	for i := range p.policy.Rules {
		r := &p.policy.Rules[i]
		for _, s := range p.policy.OmitStages {
			if !slices.Contains(r.OmitStages, s) {
				r.OmitStages = append(r.OmitStages, s)
			}
		}
	}
	return p, strange, nil
}

func validatePolicy(p *auditv1.Policy) field.ErrorList {
	errs := validateStages(p.OmitStages, field.NewPath("omitStages"))
	for i := range p.Rules {
		r, at := &p.Rules[i], field.NewPath("rules").Index(i)
		switch {
		case r.Level == "":
			errs = append(errs, field.Required(at.Child("level"), ""))
		case !slices.Contains(levels, r.Level):
			errs = append(errs, field.NotSupported(at.Child("level"), r.Level, levels))
		}
		urls := at.Child("nonResourceURLs")
		for j, url := range r.NonResourceURLs {
			if url == "*" {
				continue
			}
			if !strings.HasPrefix(url, "/") {
				errs = append(errs, field.Invalid(urls.Index(j), url, "non-resource URL rules must begin with a '/' character"))
			}
			if url != "" && strings.ContainsRune(url[:len(url)-1], '*') {
				errs = append(errs, field.Invalid(urls.Index(j), url, "non-resource URL wildcards '*' must be the final character of the rule"))
			}
		}
		for _, g := range r.Resources {
			if g.Group != "" && g.Group != "*" {
				if msgs := validation.NameIsDNSSubdomain(g.Group, false); len(msgs) > 0 {
					errs = append(errs, field.Invalid(at.Child("resources", "group"), g.Group, strings.Join(msgs, ",")))
				}
			}
			if len(g.ResourceNames) > 0 && len(g.Resources) == 0 {
				errs = append(errs, field.Invalid(at.Child("resources", "resourceNames"), g.ResourceNames, "using resourceNames requires at least one resource"))
			}
		}
		errs = append(errs, validateStages(r.OmitStages, at.Child("omitStages"))...)
		if len(r.NonResourceURLs) > 0 && (len(r.Resources) > 0 || len(r.Namespaces) > 0) {
			errs = append(errs, field.Invalid(urls, r.NonResourceURLs, "rules cannot apply to both regular resources and non-resource URLs"))
		}
	}
	return errs
}

func validateStages(list []auditv1.Stage, p *field.Path) (errs field.ErrorList) {
	for i, s := range list {
		if !slices.Contains(stages, s) {
			errs = append(errs, field.NotSupported(p.Index(i), s, stages))
		}
	}
	return errs
}

// Rule is that of the first of the policy's rules that is about a request. What none is about is not told.
func (p *Policy) Rule(a *authz.Attributes) Rule {
	for i := range p.policy.Rules {
		r := &p.policy.Rules[i]
		if !matches(r, a) {
			continue
		}
		omit := p.policy.OmitManagedFields
		if r.OmitManagedFields != nil {
			omit = *r.OmitManagedFields
		}
		return Rule{r.Level, r.OmitStages, omit}
	}
	return Rule{Level: auditv1.LevelNone}
}

func matches(r *auditv1.PolicyRule, a *authz.Attributes) bool {
	if len(r.Users) > 0 && (a.User == nil || !slices.Contains(r.Users, a.User.Name)) {
		return false
	}
	if len(r.UserGroups) > 0 && (a.User == nil || !slices.ContainsFunc(a.User.Groups, func(g string) bool { return slices.Contains(r.UserGroups, g) })) {
		return false
	}
	if len(r.Verbs) > 0 && !slices.Contains(r.Verbs, a.Verb) {
		return false
	}
	switch {
	case len(r.Namespaces) > 0 || len(r.Resources) > 0:
		// What is in no namespace is in that without a name.
		return a.ResourceRequest && (len(r.Namespaces) == 0 || slices.Contains(r.Namespaces, a.Namespace)) &&
			(len(r.Resources) == 0 || slices.ContainsFunc(r.Resources, func(g auditv1.GroupResources) bool { return matchesResource(&g, a) }))
	case len(r.NonResourceURLs) > 0:
		return !a.ResourceRequest && slices.ContainsFunc(r.NonResourceURLs, func(url string) bool {
			prefix, wild := strings.CutSuffix(url, "*")
			return url == a.Path || wild && strings.HasPrefix(a.Path, prefix)
		})
	}
	return true
}

func matchesResource(g *auditv1.GroupResources, a *authz.Attributes) bool {
	if g.Group != a.APIGroup && g.Group != "*" {
		return false
	}
	if len(g.Resources) == 0 {
		return true
	}
	if len(g.ResourceNames) > 0 && !slices.Contains(g.ResourceNames, a.Name) {
		return false
	}
	whole := a.Resource
	if a.Subresource != "" {
		whole += "/" + a.Subresource
	}
	return slices.ContainsFunc(g.Resources, func(r string) bool {
		return r == "*" || r == whole || a.Subresource != "" && r == "*/"+a.Subresource || r == a.Resource+"/*"
	})
}
