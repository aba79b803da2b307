package main

import (
	"context"
	"fmt"
	"strings"
	"time"
)

const policies = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies"

// policy is a ValidatingAdmissionPolicy about config maps in the namespace abuse.
func policy(name, expression string) string {
	return fmt.Sprintf(`{"metadata":{"name":%q},"spec":{"matchConstraints":{"resourceRules":[{"apiGroups":[""],"apiVersions":["v1"],"operations":["CREATE"],"resources":["configmaps"]}],"namespaceSelector":{"matchLabels":{"kubernetes.io/metadata.name":"abuse"}}},"validations":[{"expression":%q}]}}`, name, expression)
}

// ruled is a schema with a rule.
func ruled(rule string) string {
	return fmt.Sprintf(`{"type":"object","properties":{"spec":{"type":"object","x-kubernetes-validations":[{"rule":%q}],"properties":{"s":{"type":"string"},"l":{"type":"array","items":{"type":"array","items":{"type":"string"}}}}}}}`, rule)
}

// extensions are definitions, rules, patterns and policies.
func extensions() []attack {
	const group = "Definitions, rules and policies"
	crd := func(name string, want []string, schema func() string) attack {
		return attack{group: group, name: name, want: want, memory: 512 * mib, run: lazily(1, func() request { return post(crds+"?dryRun=All", "", definition("bombs", "Bomb", schema())) })}
	}
	vap := func(name string, expression func() string) attack {
		return attack{group: group, name: name, want: []string{"422"}, memory: 256 * mib, run: lazily(1, func() request { return post(policies+"?dryRun=All", "", policy("bomb", expression())) })}
	}
	text := func(s string) func() string { return func() string { return s } }
	property := func(s string) func() string {
		return func() string { return `{"type":"object","properties":{"a":` + s + `}}` }
	}
	return []attack{
		crd("a schema nested 9,000 deep", []string{"400", "422"}, func() string {
			return nested(9_000, `{"type":"object","properties":{"a":`, `{"type":"string","default":1}`, "}}")
		}),
		crd("a schema nested 4,900 deep in items that have no type", []string{"400", "422"}, func() string { return nested(4_900, `{"items":`, "{}", "}") }),
		crd("a schema of 40,000 properties that are wrong", []string{"413", "422"}, func() string {
			return `{"type":"object","properties":{` + join(40_000, func(i int) string { return fmt.Sprintf(`"p%d":{"type":"none"}`, i) }) + `}}`
		}),
		crd("a pattern of repeated repetitions", []string{"422"}, property(`{"type":"string","pattern":"(((a{1000}){1000}){1000}){1000}"}`)),
		crd("a pattern of 300,000 parentheses", []string{"422"}, func() string {
			return property(`{"type":"string","pattern":"` + nested(300_000, "(", "a", ")") + `"}`)()
		}),
		crd("a pattern that looks back", []string{"422"}, property(`{"type":"string","pattern":"(a+)+\\1(?=b)"}`)),
		crd("an enumeration nested 9,000 deep", []string{"400", "422"}, func() string { return property(`{"type":"string","default":` + nested(9_000, `[`, "", "]") + `}`)() }),
		crd("a rule over lists of lists without bounds", []string{"422"}, text(ruled("self.l.all(a, a.all(b, self.l.all(c, c.all(d, b.contains(d)))))"))),
		crd("a rule of 300 nested parentheses", []string{"422"}, text(ruled(nested(300, "(", "1", ")")+" == 1"))),
		crd("a rule of 200,000 characters", []string{"422"}, func() string { return ruled("true" + strings.Repeat(" || true", 25_000)) }),
		crd("a rule that is not UTF-8", []string{"422", "400"}, text(ruled("self.s == '\xff")+"")),
		{group: group, name: "a rule that matches by a repeated pattern", want: []string{"422"}, run: ask(post(crds+"?dryRun=All", "", definition("bombs", "Bomb", ruled("self.s.matches('((a{1000}){1000}){1000}')"))))},
		{group: group, name: "500 rules each 90,000 times estimated", want: []string{"422"}, memory: 512 * mib, time: 15 * time.Second, run: lazily(1, func() request {
			rules := join(500, func(i int) string { return fmt.Sprintf(`{"rule":"self.l.all(x, x.all(y, y != '%d'))"}`, i) })
			return post(crds+"?dryRun=All", "", definition("bombs", "Bomb", `{"type":"object","properties":{"spec":{"type":"object","x-kubernetes-validations":[`+rules+`],"properties":{"l":{"type":"array","items":{"type":"array","items":{"type":"string"}}}}}}}`))
		})},
		{group: group, name: "400 versions that are wrong", want: []string{"422"}, memory: 256 * mib, run: lazily(1, func() request {
			return post(crds+"?dryRun=All", "", definitions("bombs", "Bomb", join(400, func(i int) string {
				return fmt.Sprintf(`{"name":"v%d","served":true,"storage":true,"schema":{"openAPIV3Schema":{"type":"object"}}}`, i+1)
			})))
		})},
		vap("a policy of 1 MiB", func() string { return "true" + strings.Repeat(" || true", 130_000) }),
		vap("a policy of 10,000 parentheses", func() string { return nested(10_000, "(", "true", ")") }),
		vap("a policy of 40,000 negations", func() string { return strings.Repeat("!-", 20_000) + "true" }),
		vap("a policy of 10,000 nested lists", func() string { return nested(10_000, "[", "", "]") + " == []" }),
		vap("a policy of 100 nested macros that is not boolean", func() string {
			return nested(100, "[1,2].map(x, ", "1", ")")
		}),
		vap("a policy of 1,000 errors", func() string { return "none" + strings.Repeat(" + none", 1_000) }),
		{group: group, name: "a policy whose evaluation never ends", want: []string{"422", "403"}, stores: []string{"/registry/validatingadmissionpolicies/", "/registry/validatingadmissionpolicybindings/"}, run: endless},
		{group: group, name: "a text of 900,000 characters against a pattern that backtracks", want: []string{"422"}, run: ask(post("/apis/abuse.example.com/v1/namespaces/abuse/foos", "", `{"apiVersion":"abuse.example.com/v1","kind":"Foo","metadata":{"name":"p"},"spec":{"text":"`+strings.Repeat("a", 900_000)+`b"}}`))},
		{group: group, name: "250,000 items of the wrong type", want: []string{"413", "422"}, run: lazily(1, func() request {
			return post("/apis/abuse.example.com/v1/namespaces/abuse/foos", "", `{"apiVersion":"abuse.example.com/v1","kind":"Foo","metadata":{"name":"p"},"spec":{"list":[`+join(250_000, func(int) string { return "1" })+`]}}`)
		})},
	}
}

// endless binds a policy whose cost has no end, and sends it what it is about.
func endless(ctx context.Context, t *target) (answers, error) {
	const bindings = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings"
	all := "[0,1,2,3,4,5,6,7,8,9].all(x%d, "
	expression := ""
	for i := range 9 {
		expression += fmt.Sprintf(all, i)
	}
	expression += "object.metadata.name != 'other'" + strings.Repeat(")", 9)
	if _, err := t.must(ctx, "POST", policies, policy("endless", expression)); err != nil {
		return nil, err
	}
	defer func() { _, _ = t.must(ctx, "DELETE", policies+"/endless", "") }()
	if _, err := t.must(ctx, "POST", bindings, `{"metadata":{"name":"endless"},"spec":{"policyName":"endless","validationActions":["Deny"]}}`); err != nil {
		return nil, err
	}
	defer func() { _, _ = t.must(ctx, "DELETE", bindings+"/endless", "") }()
	for {
		r := post(configMaps+"?dryRun=All", "", configMap("}"))
		code, data, err := t.do(ctx, r)
		// Until the policy is in force, the request succeeds.
		if err != nil || code != "201" {
			if err == nil && !strings.Contains(string(data), "cost") {
				code += " without a word of the cost"
			}
			return one(code), err
		}
		if err := pause(ctx); err != nil {
			return nil, err
		}
	}
}

// pause is a moment.
func pause(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(100 * time.Millisecond):
		return nil
	}
}
