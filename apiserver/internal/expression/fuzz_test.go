package expression

import (
	"strings"
	"testing"

	"github.com/google/cel-go/cel"
)

func FuzzCompile(f *testing.F) {
	for _, s := range []string{
		"object.spec.replicas <= 5", "has(object.a) && object.a.all(x, x.matches('^a+$'))", "variables.v == params.x", "authorizer.group('').resource('pods').check('get').allowed()",
		"quantity('1Gi').isGreaterThan(quantity('1Mi'))", "ip('10.0.0.1').family() == 4", "url('https://a/b').getHost()", "[1,2,3].map(x, x * 2).sum() > duration('1h').getHours()", "((((1))))", "'\\u0000'", "cidr('10.0.0.0/8').containsIP('10.1.1.1')", "semver('1.2.3').major()",
	} {
		f.Add(s, true)
	}
	c := &Compiler{}
	composed, err := c.Compose([]Variable{{Name: "v", Expression: "object.a"}}, Options{Params: true})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, source string, simple bool) {
		scope := composed
		if simple {
			scope = c.Simple()
		}
		p := scope.Compile(source, Options{Params: true, Authorizer: simple}, cel.BoolType)
		if (p.Err() == nil) != (p.program != nil) {
			t.Fatalf("%q: a program and %v", source, p.Err())
		}
		if p.Err() != nil {
			// One error per place, each with the line that it is in: as many as the parser tells of.
			if most := 200 * (len(source) + 1000); len(p.Err().Error()) > most {
				t.Fatalf("an error of %d bytes about %d", len(p.Err().Error()), len(source))
			}
			return
		}
		if !p.output.IsExactType(cel.BoolType) && !cel.AnyType.IsExactType(cel.BoolType) {
			t.Fatalf("%q is %v", source, p.output)
		}
		if strings.TrimSpace(source) == "" {
			t.Fatal("nothing is an expression")
		}
	})
}
