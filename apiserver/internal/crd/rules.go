package crd

import (
	"fmt"
	"math"
	"sort"

	celgo "github.com/google/cel-go/cel"
	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel/model"
	"k8s.io/apimachinery/pkg/util/validation/field"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	apiservercel "k8s.io/apiserver/pkg/cel"
	"k8s.io/apiserver/pkg/cel/environment"
)

// What a rule, and all rules of a definition together, may cost by estimate.
const (
	maxRuleCost  = 10000000
	maxTotalCost = 100000000
)

// costs estimates what the rules of one node cost, KEP-2876: how often the node
// can occur in an object, and of which type it is.
type costs struct {
	parent *costs
	schema *props // nil for none
	// ruled is whether a rule stands at the node or above it: only then is its
	// type of interest.
	ruled bool
	// bounded is whether the node occurs at most count times.
	bounded bool
	count   uint64
	total   *totalCost
	// find takes the type from the parent's, nil where it cannot.
	find func(parent *typeInfo) *typeInfo

	known bool
	info  *typeInfo
	err   error
}

// typeInfo is a node's type.
type typeInfo struct {
	schema *structuralschema.Structural
	decl   *apiservercel.DeclType
}

func newCosts(s *props) *costs {
	return &costs{schema: s, ruled: len(s.XValidations) > 0, bounded: true, count: 1, total: &totalCost{}}
}

func (c *costs) child(s *props, find func(*typeInfo) *typeInfo) *costs {
	if c == nil {
		return nil
	}
	out := &costs{parent: c, schema: s, ruled: c.ruled || s != nil && len(s.XValidations) > 0, total: c.total, find: find}
	if c.schema == nil || !c.bounded {
		return out
	}
	if most, ok := elements(c.schema); ok {
		out.bounded, out.count = true, times(c.count, most)
	}
	return out
}

// elements is how many children of a kind a node can have, false for any number.
func elements(s *props) (uint64, bool) {
	var bound *int64
	switch {
	case s.Type == "object" && s.AdditionalProperties != nil:
		bound = s.MaxProperties
	case s.Type == "array":
		bound = s.MaxItems
	default:
		return 1, true
	}
	if bound == nil {
		return 0, false
	}
	return uint64(max(*bound, 0)), true
}

// times multiplies, with the largest number for what is larger.
func times(a, b uint64) uint64 {
	if a == 0 {
		return 0
	}
	if math.MaxUint/a < b {
		return math.MaxUint
	}
	return a * b
}

func (c *costs) property(s *props, name string) *costs {
	return c.child(s, func(p *typeInfo) *typeInfo {
		sub, ok := p.schema.Properties[name]
		escaped, can := apiservercel.Escape(name)
		if !ok && p.schema.Properties == nil || !can {
			return nil
		}
		if f, ok := p.decl.Fields[escaped]; ok {
			return &typeInfo{&sub, f.Type}
		}
		return nil
	})
}

func (c *costs) items(s *props) *costs {
	return c.child(s, func(p *typeInfo) *typeInfo {
		if p.schema.Items == nil {
			return nil
		}
		return &typeInfo{p.schema.Items, p.decl.ElemType}
	})
}

func (c *costs) values(s *props) *costs {
	return c.child(s, func(p *typeInfo) *typeInfo {
		if p.schema.AdditionalProperties == nil {
			return nil
		}
		return &typeInfo{p.schema.AdditionalProperties.Structural, p.decl.ElemType}
	})
}

// typ is the node's type, taken from the parent's where that is known: to build
// one is expensive.
func (c *costs) typ() (*typeInfo, error) {
	if c == nil || !c.ruled {
		return nil, nil
	}
	if c.known {
		return c.info, c.err
	}
	c.known = true
	if c.parent != nil {
		p, err := c.parent.typ()
		if err != nil {
			c.err = err
			return nil, err
		}
		if p != nil {
			if c.info = c.find(p); c.info != nil {
				return c.info, nil
			}
		}
	}
	s, err := structuralschema.NewStructural(c.schema)
	if err != nil {
		c.err = err
		return nil, err
	}
	decl := model.SchemaDeclType(s, c.parent == nil || c.schema.XEmbeddedResource)
	if decl == nil {
		c.err = fmt.Errorf("unable to convert structural schema to CEL declarations")
		return nil, c.err
	}
	c.info = &typeInfo{s, decl}
	return c.info, nil
}

// totalCost is what all rules of a schema cost.
type totalCost struct {
	sum  uint64
	most []ruleCost
}

type ruleCost struct {
	at   *field.Path
	cost uint64
}

func (t *totalCost) observe(at *field.Path, cost uint64) {
	if math.MaxUint64-t.sum < cost {
		t.sum = math.MaxUint64
	} else {
		t.sum += cost
	}
	if cost < maxTotalCost/100 {
		return
	}
	const shown = 4
	t.most = append(t.most, ruleCost{at, cost})
	sort.Slice(t.most, func(i, j int) bool { return t.most[i].cost > t.most[j].cost })
	t.most = t.most[:min(len(t.most), shown)]
}

func (t *totalCost) errors(at *field.Path) field.ErrorList {
	if t.sum <= maxTotalCost {
		return nil
	}
	var errs field.ErrorList
	for _, r := range t.most {
		errs = append(errs, field.Forbidden(r.at, "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema"))
	}
	return append(errs, field.Forbidden(at, tooExpensive("x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema", t.sum, maxTotalCost)))
}

func tooExpensive(what string, cost, limit uint64) string {
	by := float64(cost) / float64(limit)
	factor := fmt.Sprintf("%.1fx", by)
	switch {
	case by > 100:
		factor = "more than 100x"
	case by < 1.5:
		factor = fmt.Sprintf("%fx", by)
	}
	return fmt.Sprintf("%s exceeds budget by factor of %s (try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)", what, factor)
}

// RuleEnv implements cel.EnvLoader: what is stored may use what new rules may
// not yet.
func (l *leniency) RuleEnv(set *environment.EnvSet, expression string) *celgo.Env {
	if l.rules[expression] {
		return set.StoredExpressionsEnv()
	}
	return set.NewExpressionsEnv()
}

// MessageExpressionEnv implements cel.EnvLoader.
func (l *leniency) MessageExpressionEnv(set *environment.EnvSet, expression string) *celgo.Env {
	if l.messages[expression] {
		return set.StoredExpressionsEnv()
	}
	return set.NewExpressionsEnv()
}

// rules compiles the rules of a node and adds up what they cost.
func (c schemaChecks) rules(s *props, at *field.Path, p place) field.ErrorList {
	list := at.Child("x-kubernetes-validations")
	info, err := p.cost.typ()
	switch {
	case err != nil:
		return field.ErrorList{field.InternalError(list, fmt.Errorf("internal error: failed to construct type information for x-kubernetes-validations rules: %w", err))}
	case info == nil:
		return field.ErrorList{field.InternalError(list, fmt.Errorf("internal error: failed to retrieve type information for x-kubernetes-validations"))}
	}
	results, err := cel.Compile(info.schema, info.decl, celconfig.PerCallLimit, environment.MustBaseEnvSet(environment.DefaultCompatibilityVersion()), c.lenient)
	if err != nil {
		return field.ErrorList{field.InternalError(list, err)}
	}
	var errs field.ErrorList
	for i := range results {
		errs = append(errs, c.rule(s, i, &results[i], list.Index(i), p)...)
	}
	return errs
}

func (c schemaChecks) rule(s *props, i int, r *cel.CompilationResult, at *field.Path, p place) field.ErrorList {
	var errs field.ErrorList
	cost := times(r.MaxCost, r.MaxCardinality)
	if p.cost.bounded {
		cost = times(r.MaxCost, p.cost.count)
	}
	if !c.cheap && cost > maxRuleCost {
		errs = append(errs, field.Forbidden(at.Child("rule"), tooExpensive("estimated rule cost", cost, maxRuleCost)))
	}
	p.cost.total.observe(at.Child("rule"), cost)
	if r.Error != nil {
		if r.Error.Type == apiservercel.ErrorTypeRequired {
			errs = append(errs, field.Required(at.Child("rule"), r.Error.Detail))
		} else {
			errs = append(errs, field.Invalid(at.Child("rule"), s.XValidations[i], r.Error.Detail))
		}
	}
	if r.MessageExpressionError != nil {
		errs = append(errs, field.Invalid(at.Child("messageExpression"), s.XValidations[i], r.MessageExpressionError.Detail))
	} else if r.MessageExpression != nil {
		if !c.cheap && r.MessageExpressionMaxCost > maxRuleCost {
			errs = append(errs, field.Forbidden(at.Child("messageExpression"), tooExpensive("estimated messageExpression cost", r.MessageExpressionMaxCost, maxRuleCost)))
		}
		p.cost.total.observe(at.Child("messageExpression"), r.MessageExpressionMaxCost)
	}
	if r.UsesOldSelf {
		if p.uncorrelated != nil {
			errs = append(errs, field.Invalid(at.Child("rule"), s.XValidations[i].Rule, fmt.Sprintf("oldSelf cannot be used on the uncorrelatable portion of the schema within %v", p.uncorrelated)))
		}
	} else if o := s.XValidations[i].OptionalOldSelf; o != nil {
		errs = append(errs, field.Invalid(at.Child("optionalOldSelf"), *o, "may not be set if oldSelf is not used in rule"))
	}
	return errs
}
