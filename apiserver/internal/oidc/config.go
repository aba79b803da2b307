package oidc

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strings"

	celgo "github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/operators"
	"k8s.io/apimachinery/pkg/util/sets"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	apiserverv1 "k8s.io/apiserver/pkg/apis/apiserver/v1"
	authenticationcel "k8s.io/apiserver/pkg/authentication/cel"
	"k8s.io/client-go/util/cert"
	"sigs.k8s.io/yaml"
)

// Flags are the --oidc-* flags: one provider.
type Flags struct {
	IssuerURL, ClientID, CAFile   string
	UsernameClaim, UsernamePrefix string
	GroupsClaim, GroupsPrefix     string
	SigningAlgs                   []string
	RequiredClaims                map[string]string
	// Set is whether any of them was given.
	Set bool
}

// SigningAlgs are those that tokens may be signed by.
var SigningAlgs = []string{"ES256", "ES384", "ES512", "PS256", "PS384", "PS512", "RS256", "RS384", "RS512"}

// Validate checks flags that were given.
func (f *Flags) Validate() error {
	if !f.Set {
		return nil
	}
	if f.IssuerURL == "" || f.ClientID == "" {
		return errors.New("oidc-issuer-url and oidc-client-id must be specified together when any oidc-* flags are set")
	}
	for _, a := range f.SigningAlgs {
		if !slices.Contains(SigningAlgs, a) {
			return fmt.Errorf("oidc: unsupported signing alg: %q", a)
		}
	}
	return nil
}

// Configuration is that of the flags.
//
// Errors: the CA cannot be read.
func (f *Flags) Configuration() (*apiserverv1.AuthenticationConfiguration, error) {
	prefix := f.UsernamePrefix
	switch {
	case prefix == "" && f.UsernameClaim != "email":
		// A provider's user may not pass for another's, or for one of the cluster's own.
		prefix = f.IssuerURL + "#"
	case prefix == "-":
		prefix = ""
	}
	a := apiserverv1.JWTAuthenticator{
		Issuer:        apiserverv1.Issuer{URL: f.IssuerURL, Audiences: []string{f.ClientID}},
		ClaimMappings: apiserverv1.ClaimMappings{Username: apiserverv1.PrefixedClaimOrExpression{Claim: f.UsernameClaim, Prefix: &prefix}},
	}
	if f.GroupsClaim != "" {
		a.ClaimMappings.Groups = apiserverv1.PrefixedClaimOrExpression{Claim: f.GroupsClaim, Prefix: &f.GroupsPrefix}
	}
	if f.CAFile != "" {
		data, err := os.ReadFile(f.CAFile)
		if err != nil {
			return nil, fmt.Errorf("--oidc-ca-file: %w", err)
		}
		a.Issuer.CertificateAuthority = string(data)
	}
	for claim, value := range f.RequiredClaims {
		a.ClaimValidationRules = append(a.ClaimValidationRules, apiserverv1.ClaimValidationRule{Claim: claim, RequiredValue: value})
	}
	return &apiserverv1.AuthenticationConfiguration{JWT: []apiserverv1.JWTAuthenticator{a}}, nil
}

// versions of the file. They have the same fields.
var versions = []string{"apiserver.config.k8s.io/v1", "apiserver.config.k8s.io/v1beta1"}

// Parse reads a configuration's file.
func Parse(data []byte) (*apiserverv1.AuthenticationConfiguration, error) {
	c := &apiserverv1.AuthenticationConfiguration{}
	if err := yaml.UnmarshalStrict(data, c); err != nil {
		return nil, err
	}
	if c.Kind != "AuthenticationConfiguration" || !slices.Contains(versions, c.APIVersion) {
		return nil, fmt.Errorf("it is of apiVersion %q and kind %q, not of %s and AuthenticationConfiguration", c.APIVersion, c.Kind, versions[0])
	}
	return c, nil
}

// maxProviders bounds the providers of a configuration.
const maxProviders = 64

// checker validates a configuration and compiles its expressions.
type checker struct {
	// compiler is made when the first expression is compiled: its environment is large.
	compiler authenticationcel.Compiler
	// own are the issuers of the server's own tokens.
	own  sets.Set[string]
	errs field.ErrorList
}

func (c *checker) add(e *field.Error) { c.errs = append(c.errs, e) }

func (c *checker) compile(a authenticationcel.ExpressionAccessor, user bool, p *field.Path) (authenticationcel.CompilationResult, bool) {
	if c.compiler == nil {
		c.compiler = authenticationcel.NewDefaultCompiler()
	}
	f := c.compiler.CompileClaimsExpression
	if user {
		f = c.compiler.CompileUserExpression
	}
	r, err := f(a)
	if err != nil {
		c.add(field.Invalid(p, a.GetExpression(), err.Error()))
	}
	return r, err == nil
}

// check compiles all providers' expressions; the answers are in the order of the configuration.
func (c *checker) check(cfg *apiserverv1.AuthenticationConfiguration) []authenticationcel.CELMapper {
	p := field.NewPath("jwt")
	if len(cfg.JWT) > maxProviders {
		c.add(field.TooMany(p, len(cfg.JWT), maxProviders))
		return nil
	}
	issuers, discoveries := sets.Set[string]{}, sets.Set[string]{}
	out := make([]authenticationcel.CELMapper, len(cfg.JWT))
	for i := range cfg.JWT {
		a, at := &cfg.JWT[i], p.Index(i)
		c.issuer(&a.Issuer, at.Child("issuer"))
		out[i] = c.mapper(a, at)
		if issuers.Has(a.Issuer.URL) {
			c.add(field.Duplicate(at.Child("issuer", "url"), a.Issuer.URL))
		}
		issuers.Insert(a.Issuer.URL)
		if d := a.Issuer.DiscoveryURL; d != nil && *d != "" {
			if discoveries.Has(*d) {
				c.add(field.Duplicate(at.Child("issuer", "discoveryURL"), *d))
			}
			discoveries.Insert(*d)
		}
	}
	if a := cfg.Anonymous; a != nil && !a.Enabled && len(a.Conditions) > 0 {
		c.add(field.Invalid(field.NewPath("anonymous", "conditions"), a.Conditions, "enabled should be set to true when conditions are defined"))
	}
	return out
}

func (c *checker) issuer(i *apiserverv1.Issuer, p *field.Path) {
	if i.URL == "" {
		c.add(field.Required(p.Child("url"), ""))
	} else {
		if c.own.Has(i.URL) {
			c.add(field.Invalid(p.Child("url"), i.URL, fmt.Sprintf("URL must not overlap with disallowed issuers: %s", sets.List(c.own))))
		}
		c.url(i.URL, p.Child("url"))
	}
	if d := i.DiscoveryURL; d != nil && *d != "" {
		if i.URL != "" && strings.TrimRight(i.URL, "/") == strings.TrimRight(*d, "/") {
			c.add(field.Invalid(p.Child("discoveryURL"), *d, "discoveryURL must be different from URL"))
		}
		c.url(*d, p.Child("discoveryURL"))
	}
	at, seen := p.Child("audiences"), sets.Set[string]{}
	if len(i.Audiences) == 0 {
		c.add(field.Required(at, fmt.Sprintf("at least one %s is required", at)))
	}
	for j, a := range i.Audiences {
		if a == "" {
			c.add(field.Required(at.Index(j), ""))
		}
		if seen.Has(a) {
			c.add(field.Duplicate(at.Index(j), a))
		}
		seen.Insert(a)
	}
	switch policy := i.AudienceMatchPolicy; {
	case len(i.Audiences) > 1 && policy != apiserverv1.AudienceMatchPolicyMatchAny:
		c.add(field.Invalid(p.Child("audienceMatchPolicy"), policy, "audienceMatchPolicy must be MatchAny for multiple audiences"))
	case len(i.Audiences) == 1 && policy != "" && policy != apiserverv1.AudienceMatchPolicyMatchAny:
		c.add(field.Invalid(p.Child("audienceMatchPolicy"), policy, "audienceMatchPolicy must be empty or MatchAny for single audience"))
	}
	if i.CertificateAuthority != "" {
		if _, err := cert.NewPoolFromBytes([]byte(i.CertificateAuthority)); err != nil {
			c.add(field.Invalid(p.Child("certificateAuthority"), "<omitted>", err.Error()))
		}
	}
	if i.EgressSelectorType != "" {
		c.add(field.Forbidden(p.Child("egressSelectorType"), "this server has no egress selectors"))
	}
}

func (c *checker) url(text string, p *field.Path) {
	u, err := url.Parse(text)
	if err != nil {
		c.add(field.Invalid(p, text, err.Error()))
		return
	}
	for why, bad := range map[string]bool{
		"URL scheme must be https": u.Scheme != "https", "URL must not contain a username or password": u.User != nil,
		"URL must not contain a query": u.RawQuery != "", "URL must not contain a fragment": u.Fragment != "",
	} {
		if bad {
			c.add(field.Invalid(p, text, why))
		}
	}
}

// mapper compiles a provider's expressions.
func (c *checker) mapper(a *apiserverv1.JWTAuthenticator, p *field.Path) (m authenticationcel.CELMapper) {
	email, verified := false, false
	rules := c.claimRules(a.ClaimValidationRules, p.Child("claimValidationRules"))
	if len(rules) > 0 {
		m.ClaimValidationRules = authenticationcel.NewClaimsMapper(rules)
	}
	maps, at := &a.ClaimMappings, p.Child("claimMappings")
	one := func(x *apiserverv1.PrefixedClaimOrExpression, p *field.Path, needed bool) (authenticationcel.ClaimsMapper, *authenticationcel.CompilationResult) {
		switch {
		case x.Claim != "" && x.Expression != "":
			c.add(field.Invalid(p, "", "claim and expression can't both be set"))
		case x.Claim == "" && x.Expression == "" && needed:
			c.add(field.Required(p, "claim or expression is required"))
		case x.Claim != "" && x.Prefix == nil:
			c.add(field.Required(p.Child("prefix"), "prefix is required when claim is set. It can be set to an empty string to disable prefixing"))
		case x.Expression != "":
			if x.Prefix != nil {
				c.add(field.Invalid(p.Child("prefix"), *x.Prefix, "may not be specified when expression is set"))
			}
			if r, ok := c.compile(&authenticationcel.ClaimMappingExpression{Expression: x.Expression}, false, p.Child("expression")); ok {
				return authenticationcel.NewClaimsMapper([]authenticationcel.CompilationResult{r}), &r
			}
		}
		return nil, nil
	}
	var r *authenticationcel.CompilationResult
	if m.Username, r = one(&maps.Username, at.Child("username"), true); r != nil {
		email, verified = uses(r.AST, "email"), uses(r.AST, "email_verified")
	}
	m.Groups, _ = one(&maps.Groups, at.Child("groups"), false)
	m.UID, _ = one(&apiserverv1.PrefixedClaimOrExpression{Claim: maps.UID.Claim, Expression: maps.UID.Expression, Prefix: prefixFor(maps.UID.Claim)}, at.Child("uid"), false)
	extra := c.extra(maps.Extra, at.Child("extra"))
	if len(extra) > 0 {
		m.Extra = authenticationcel.NewClaimsMapper(extra)
	}
	for _, r := range slices.Concat(rules, extra) {
		verified = verified || uses(r.AST, "email_verified")
	}
	if email && !verified {
		c.add(field.Invalid(at.Child("username", "expression"), maps.Username.Expression,
			"claims.email_verified must be used in claimMappings.username.expression or claimMappings.extra[*].valueExpression or claimValidationRules[*].expression when claims.email is used in claimMappings.username.expression"))
	}
	if users := c.userRules(a.UserValidationRules, p.Child("userValidationRules")); len(users) > 0 {
		m.UserValidationRules = authenticationcel.NewUserMapper(users)
	}
	return m
}

// prefixFor is the prefix that a claim without one has.
func prefixFor(claim string) *string {
	if claim == "" {
		return nil
	}
	return new(string)
}

func (c *checker) claimRules(rules []apiserverv1.ClaimValidationRule, p *field.Path) (out []authenticationcel.CompilationResult) {
	claims, sources := sets.Set[string]{}, sets.Set[string]{}
	for i, r := range rules {
		at := p.Index(i)
		switch {
		case r.Claim != "" && r.Expression != "":
			c.add(field.Invalid(at, r.Claim, "claim and expression can't both be set"))
		case r.Claim == "" && r.Expression == "":
			c.add(field.Required(at, "claim or expression is required"))
		case r.Claim != "":
			if r.Message != "" {
				c.add(field.Invalid(at.Child("message"), r.Message, "may not be specified when claim is set"))
			}
			if claims.Has(r.Claim) {
				c.add(field.Duplicate(at.Child("claim"), r.Claim))
			}
			claims.Insert(r.Claim)
		default:
			if r.RequiredValue != "" {
				c.add(field.Invalid(at.Child("requiredValue"), r.RequiredValue, "may not be specified when expression is set"))
			}
			if sources.Has(r.Expression) {
				c.add(field.Duplicate(at.Child("expression"), r.Expression))
				continue
			}
			sources.Insert(r.Expression)
			if x, ok := c.compile(&authenticationcel.ClaimValidationCondition{Expression: r.Expression, Message: r.Message}, false, at.Child("expression")); ok {
				out = append(out, x)
			}
		}
	}
	return out
}

func (c *checker) extra(list []apiserverv1.ExtraMapping, p *field.Path) (out []authenticationcel.CompilationResult) {
	keys := sets.Set[string]{}
	for i, x := range list {
		at := p.Index(i)
		c.errs = append(c.errs, utilvalidation.IsDomainPrefixedPath(at.Child("key"), x.Key)...)
		if x.Key != strings.ToLower(x.Key) {
			c.add(field.Invalid(at.Child("key"), x.Key, "must be lowercase"))
		}
		domain, _, _ := strings.Cut(x.Key, "/")
		for _, ours := range []string{"k8s.io", "kubernetes.io"} {
			if domain == ours || strings.HasSuffix(domain, "."+ours) {
				c.add(field.Invalid(at.Child("key"), x.Key, "k8s.io, kubernetes.io and their subdomains are reserved for Kubernetes use"))
			}
		}
		if keys.Has(x.Key) {
			c.add(field.Duplicate(at.Child("key"), x.Key))
			continue
		}
		keys.Insert(x.Key)
		if x.ValueExpression == "" {
			c.add(field.Required(at.Child("valueExpression"), ""))
			continue
		}
		if r, ok := c.compile(&authenticationcel.ExtraMappingExpression{Key: x.Key, Expression: x.ValueExpression}, false, at.Child("valueExpression")); ok {
			out = append(out, r)
		}
	}
	return out
}

func (c *checker) userRules(rules []apiserverv1.UserValidationRule, p *field.Path) (out []authenticationcel.CompilationResult) {
	seen := sets.Set[string]{}
	for i, r := range rules {
		at := p.Index(i).Child("expression")
		switch {
		case r.Expression == "":
			c.add(field.Required(at, ""))
			continue
		case seen.Has(r.Expression):
			c.add(field.Duplicate(at, r.Expression))
			continue
		}
		seen.Insert(r.Expression)
		if x, ok := c.compile(&authenticationcel.UserValidationCondition{Expression: r.Expression, Message: r.Message}, true, at); ok {
			out = append(out, x)
		}
	}
	return out
}

// uses is whether an expression reads a claim, as claims.NAME or claims.?NAME.
func uses(a *celgo.Ast, claim string) bool {
	found := false
	claims := func(e ast.Expr) bool { return e.Kind() == ast.IdentKind && e.AsIdent() == "claims" }
	ast.PostOrderVisit(a.NativeRep().Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		switch e.Kind() {
		case ast.SelectKind:
			s := e.AsSelect()
			found = found || s.FieldName() == claim && claims(s.Operand())
		case ast.CallKind:
			call := e.AsCall()
			if call.FunctionName() == operators.OptSelect && len(call.Args()) == 2 && claims(call.Args()[0]) {
				name := call.Args()[1]
				found = found || name.Kind() == ast.LiteralKind && name.AsLiteral().Value() == claim
			}
		}
	}))
	return found
}
