package authzconfig

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	"k8s.io/apimachinery/pkg/util/sets"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	apiserverv1 "k8s.io/apiserver/pkg/apis/apiserver/v1"
	authorizationcel "k8s.io/apiserver/pkg/authorization/cel"
	apiservercel "k8s.io/apiserver/pkg/cel"
	"sigs.k8s.io/yaml"

	"flagship/apiserver/internal/review"
)

// versions of the file. They have the same fields.
var versions = []string{"apiserver.config.k8s.io/v1", "apiserver.config.k8s.io/v1beta1", "apiserver.config.k8s.io/v1alpha1"}

// Bounds of a webhook's configuration.
const (
	maxConditions = 64
	maxTimeout    = 30 * time.Second
)

// parse reads a configuration's file, and fills in what it leaves out.
func parse(data []byte) (*apiserverv1.AuthorizationConfiguration, error) {
	c := &apiserverv1.AuthorizationConfiguration{}
	if err := yaml.UnmarshalStrict(data, c); err != nil {
		return nil, err
	}
	if c.Kind != "AuthorizationConfiguration" || !slices.Contains(versions, c.APIVersion) {
		return nil, fmt.Errorf("it is of apiVersion %q and kind %q, not of %s and AuthorizationConfiguration", c.APIVersion, c.Kind, versions[0])
	}
	for i := range c.Authorizers {
		if w := c.Authorizers[i].Webhook; w != nil {
			apiserverv1.SetDefaults_WebhookConfiguration(w)
		}
	}
	return c, nil
}

// checker validates configurations and compiles their conditions.
type checker struct {
	// compiler is made when the first condition is compiled: its environment is large.
	compiler authorizationcel.Compiler
	errs     field.ErrorList
}

func (c *checker) add(e *field.Error) { c.errs = append(c.errs, e) }

// check returns the conditions of each authorizer, nil for none.
//
// Errors: what is wrong with the configuration.
func (c *checker) check(cfg *apiserverv1.AuthorizationConfiguration) ([]*authorizationcel.CELMatcher, error) {
	c.errs = nil
	p := field.NewPath("authorizers")
	if len(cfg.Authorizers) == 0 {
		c.add(field.Required(p, "at least one authorization mode must be defined"))
	}
	out := make([]*authorizationcel.CELMatcher, len(cfg.Authorizers))
	seen, names := sets.Set[string]{}, sets.Set[string]{}
	for i := range cfg.Authorizers {
		a, at := &cfg.Authorizers[i], p.Index(i)
		switch {
		case a.Type == "":
			c.add(field.Required(at.Child("type"), ""))
			continue
		case !slices.Contains(types, a.Type):
			c.add(field.NotSupported(at.Child("type"), a.Type, types))
			continue
		case seen.Has(a.Type) && a.Type != Webhook:
			c.add(field.Duplicate(at.Child("type"), a.Type))
			continue
		}
		seen.Insert(a.Type)
		if a.Name == "" {
			c.add(field.Required(at.Child("name"), ""))
		} else if names.Has(a.Name) {
			c.add(field.Duplicate(at.Child("name"), a.Name))
		} else if errs := utilvalidation.IsDNS1123Subdomain(a.Name); len(errs) > 0 {
			c.add(field.Invalid(at.Child("name"), a.Name, "authorizer name is invalid: "+strings.Join(errs, ", ")))
		}
		names.Insert(a.Name)
		switch {
		case a.Type != Webhook && a.Webhook != nil:
			c.add(field.Invalid(at.Child("webhook"), "non-null", "may only be specified when type=Webhook"))
		case a.Type == Webhook && a.Webhook == nil:
			c.add(field.Required(at.Child("webhook"), "required when type=Webhook"))
		case a.Webhook != nil:
			out[i] = c.webhook(a.Webhook, at)
		}
	}
	if len(c.errs) > 0 {
		return nil, c.errs.ToAggregate()
	}
	return out, named(cfg)
}

// named is whether the authorizers that are not webhooks have the names that they must.
func named(cfg *apiserverv1.AuthorizationConfiguration) error {
	var errs []error
	for i := range cfg.Authorizers {
		a := &cfg.Authorizers[i]
		if want := strings.ToLower(a.Type); a.Type != Webhook && a.Name != want {
			errs = append(errs, fmt.Errorf("expected name %s for authorizer %s instead of %s", want, a.Type, a.Name))
		}
	}
	return utilerrors.NewAggregate(errs)
}

func (c *checker) webhook(w *apiserverv1.WebhookConfiguration, p *field.Path) *authorizationcel.CELMatcher {
	c.duration(w.Timeout.Duration, maxTimeout, p.Child("timeout"))
	c.duration(w.AuthorizedTTL.Duration, 0, p.Child("authorizedTTL"))
	c.duration(w.UnauthorizedTTL.Duration, 0, p.Child("unauthorizedTTL"))
	c.oneOf(w.SubjectAccessReviewVersion, "", p.Child("subjectAccessReviewVersion"), review.Versions...)
	if w.MatchConditionSubjectAccessReviewVersion != "" || len(w.MatchConditions) > 0 {
		c.oneOf(w.MatchConditionSubjectAccessReviewVersion, "required if match conditions are specified", p.Child("matchConditionSubjectAccessReviewVersion"), "v1")
	}
	c.oneOf(w.FailurePolicy, "", p.Child("failurePolicy"), apiserverv1.FailurePolicyNoOpinion, apiserverv1.FailurePolicyDeny)
	c.connection(&w.ConnectionInfo, p.Child("connectionInfo"))
	return c.conditions(w.MatchConditions, p.Child("matchConditions"))
}

// duration is whether d is positive, and not above a bound where there is one.
func (c *checker) duration(d, bound time.Duration, p *field.Path) {
	switch {
	case d == 0:
		c.add(field.Required(p, ""))
	case bound > 0 && (d < 0 || d > bound):
		c.add(field.Invalid(p, d.String(), "must be > 0s and <= 30s"))
	case d < 0:
		c.add(field.Invalid(p, d.String(), "must be > 0s"))
	}
}

func (c *checker) oneOf(have, missing string, p *field.Path, known ...string) {
	if have == "" {
		c.add(field.Required(p, missing))
	} else if !slices.Contains(known, have) {
		c.add(field.NotSupported(p, have, known))
	}
}

func (c *checker) connection(i *apiserverv1.WebhookConnectionInfo, p *field.Path) {
	file := p.Child("kubeConfigFile")
	switch i.Type {
	case "":
		c.add(field.Required(p.Child("type"), ""))
	case apiserverv1.AuthorizationWebhookConnectionInfoTypeKubeConfigFile:
		if i.KubeConfigFile == nil || *i.KubeConfigFile == "" {
			c.add(field.Required(file, ""))
			return
		}
		path := *i.KubeConfigFile
		if !filepath.IsAbs(path) {
			c.add(field.Invalid(file, path, "must be an absolute path"))
		} else if info, err := os.Stat(path); err != nil {
			c.add(field.Invalid(file, path, fmt.Sprintf("error loading file: %v", err)))
		} else if !info.Mode().IsRegular() {
			c.add(field.Invalid(file, path, "must be a regular file"))
		}
	case apiserverv1.AuthorizationWebhookConnectionInfoTypeInCluster:
		// It would be this server that asks itself.
		c.add(field.Invalid(p.Child("type"), i.Type, "is not allowed for kube-apiserver"))
	default:
		c.add(field.NotSupported(p.Child("type"), i.Type, []string{apiserverv1.AuthorizationWebhookConnectionInfoTypeKubeConfigFile}))
	}
}

func (c *checker) conditions(list []apiserverv1.WebhookMatchCondition, p *field.Path) *authorizationcel.CELMatcher {
	if len(list) > maxConditions {
		c.add(field.TooMany(p, len(list), maxConditions))
		return nil
	}
	if len(list) > 0 && c.compiler == nil {
		c.compiler = authorizationcel.NewDefaultCompiler()
	}
	m := &authorizationcel.CELMatcher{}
	seen := sets.Set[string]{}
	for i, x := range list {
		at := p.Index(i).Child("expression")
		switch {
		case strings.TrimSpace(x.Expression) == "":
			c.add(field.Required(at, ""))
			continue
		case seen.Has(x.Expression):
			c.add(field.Duplicate(at, x.Expression))
			continue
		}
		seen.Insert(x.Expression)
		r, err := c.compiler.CompileCELExpression(&authorizationcel.SubjectAccessReviewMatchCondition{Expression: x.Expression})
		if err != nil {
			c.add(invalid(at, x.Expression, err))
			continue
		}
		m.CompilationResults = append(m.CompilationResults, r)
		m.UsesFieldSelector, m.UsesLabelSelector = m.UsesFieldSelector || r.UsesFieldSelector, m.UsesLabelSelector || r.UsesLabelSelector
	}
	if len(m.CompilationResults) == 0 {
		return nil
	}
	return m
}

func invalid(p *field.Path, expression string, err error) *field.Error {
	var e *apiservercel.Error
	if errors.As(err, &e) && e.Type == apiservercel.ErrorTypeInvalid {
		return field.Invalid(p, expression, e.Detail)
	}
	return field.InternalError(p, err)
}
