package expression

import (
	"fmt"
	"sync"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types/traits"
	"k8s.io/apimachinery/pkg/util/version"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	apiservercel "k8s.io/apiserver/pkg/cel"
	"k8s.io/apiserver/pkg/cel/common"
	"k8s.io/apiserver/pkg/cel/environment"
	"k8s.io/apiserver/pkg/cel/library"
	"k8s.io/apiserver/pkg/cel/mutation"
)

// Options are the variables that an expression may use besides object,
// oldObject, request and namespaceObject.
type Options struct {
	Params, Authorizer bool
	// Patch is for the expressions of mutations, which build objects.
	Patch bool
}

// Variable is a named expression that later ones may use.
type Variable struct{ Name, Expression string }

// Program is a compiled expression, or why it is none.
type Program struct {
	Source  string
	program cel.Program
	output  *cel.Type
	err     error
}

// Err is why the expression does not compile.
func (p *Program) Err() error { return p.err }

// Compiler compiles expressions. It is safe for concurrent use.
type Compiler struct {
	mu   sync.Mutex // guards envs
	envs map[Options]*environment.EnvSet
}

// Scope is where expressions see the same variables. It is made by one
// goroutine and then only read.
type Scope struct {
	compiler  *Compiler
	composed  *environment.EnvSet
	typ       *apiservercel.DeclType
	variables map[string]*Program
	envs      map[Options]*environment.EnvSet
}

// Simple is the scope without variables.
func (c *Compiler) Simple() *Scope { return &Scope{compiler: c} }

// Compose returns a scope in which expressions see the variables given, each of
// which sees those before it.
func (c *Compiler) Compose(variables []Variable, o Options) (*Scope, error) {
	typ := apiservercel.NewObjectType("kubernetes.variables", map[string]*apiservercel.DeclField{})
	composed, err := base().Extend(environment.VersionedOptions{
		IntroducedVersion: version.MajorMinor(1, 0),
		EnvOptions:        []cel.EnvOption{cel.Variable("variables", typ.CelType())},
		DeclTypes:         []*apiservercel.DeclType{typ},
	})
	if err != nil {
		return nil, fmt.Errorf("environment misconfigured: %w", err)
	}
	s := &Scope{compiler: c, composed: composed, typ: typ, variables: map[string]*Program{}, envs: map[Options]*environment.EnvSet{}}
	for _, v := range variables {
		p := s.Compile(v.Expression, o, cel.AnyType)
		typ.Fields[v.Name] = apiservercel.NewDeclField(v.Name, declType(p.output), true, nil, nil)
		s.variables[v.Name] = p
	}
	return s, nil
}

func base() *environment.EnvSet {
	return environment.MustBaseEnvSet(environment.DefaultCompatibilityVersion())
}

// env is the environment of a scope with the variables asked for.
func (s *Scope) env(o Options) (*environment.EnvSet, error) {
	if s.composed != nil {
		if have, ok := s.envs[o]; ok {
			return have, nil
		}
		made, err := extend(s.composed, o)
		if err == nil {
			s.envs[o] = made
		}
		return made, err
	}
	c := s.compiler
	c.mu.Lock()
	defer c.mu.Unlock()
	if have, ok := c.envs[o]; ok {
		return have, nil
	}
	made, err := extend(base(), o)
	if err != nil {
		return nil, err
	}
	if c.envs == nil {
		c.envs = map[Options]*environment.EnvSet{}
	}
	c.envs[o] = made
	return made, nil
}

func extend(from *environment.EnvSet, o Options) (*environment.EnvSet, error) {
	request, namespace := requestType(), namespaceType()
	options := []cel.EnvOption{
		cel.Variable("object", cel.DynType), cel.Variable("oldObject", cel.DynType),
		cel.Variable("namespaceObject", namespace.CelType()), cel.Variable("request", request.CelType()),
	}
	if o.Params {
		options = append(options, cel.Variable("params", cel.DynType))
	}
	if o.Authorizer {
		options = append(options, cel.Variable("authorizer", library.AuthorizerType), cel.Variable("authorizer.requestResource", library.ResourceCheckType))
	}
	out, err := from.Extend(environment.VersionedOptions{
		IntroducedVersion: version.MajorMinor(1, 0), EnvOptions: options, DeclTypes: []*apiservercel.DeclType{namespace, request},
	}, environment.StrictCostOpt)
	if err == nil && o.Patch {
		out, err = out.Extend(environment.VersionedOptions{
			IntroducedVersion: version.MajorMinor(1, 0),
			EnvOptions:        []cel.EnvOption{common.ResolverEnvOption(&mutation.DynamicTypeResolver{}), environment.UnversionedLib(library.JSONPatch)},
		})
	}
	if err != nil {
		return nil, fmt.Errorf("environment misconfigured: %w", err)
	}
	return out, nil
}

// Compile compiles an expression that must give one of the types, any for
// cel.AnyType.
func (s *Scope) Compile(source string, o Options, types ...*cel.Type) *Program {
	p := &Program{Source: source}
	fail := func(format string, args ...any) *Program {
		p.err = &apiservercel.Error{Type: apiservercel.ErrorTypeInvalid, Detail: fmt.Sprintf(format, args...)}
		return p
	}
	set, err := s.env(o)
	if err != nil {
		return fail("unexpected error loading CEL environment: %v", err)
	}
	env := set.StoredExpressionsEnv()
	ast, issues := env.Compile(source)
	if issues != nil {
		return fail("compilation failed: %s", issues.String())
	}
	found := false
	for _, t := range types {
		found = found || ast.OutputType().IsExactType(t) || cel.AnyType.IsExactType(t)
	}
	if !found && len(types) == 1 {
		return fail("must evaluate to %v but got %v", types[0].String(), ast.OutputType().String())
	} else if !found {
		return fail("must evaluate to one of %v but got %v", types, ast.OutputType().String())
	}
	if p.program, err = env.Program(ast, cel.InterruptCheckFrequency(celconfig.CheckFrequency)); err != nil {
		return fail("program instantiation failed: %v", err)
	}
	p.output = ast.OutputType()
	return p
}

// declType is a CEL type as a declared one.
func declType(t *cel.Type) *apiservercel.DeclType {
	if t == nil {
		return apiservercel.DynType
	}
	for _, pair := range []struct {
		from *cel.Type
		to   *apiservercel.DeclType
	}{
		{cel.AnyType, apiservercel.AnyType},
		{cel.BoolType, apiservercel.BoolType},
		{cel.BytesType, apiservercel.BytesType},
		{cel.DoubleType, apiservercel.DoubleType},
		{cel.DurationType, apiservercel.DurationType},
		{cel.IntType, apiservercel.IntType},
		{cel.NullType, apiservercel.NullType},
		{cel.StringType, apiservercel.StringType},
		{cel.TimestampType, apiservercel.TimestampType},
		{cel.UintType, apiservercel.UintType},
	} {
		if t == pair.from {
			return pair.to
		}
	}
	if t.HasTrait(traits.ContainerType) && t.HasTrait(traits.IndexerType) {
		switch p := t.Parameters(); len(p) {
		case 1:
			return apiservercel.NewListType(declType(p[0]), -1)
		case 2:
			return apiservercel.NewMapType(declType(p[0]), declType(p[1]), -1)
		}
	}
	return apiservercel.DynType
}
