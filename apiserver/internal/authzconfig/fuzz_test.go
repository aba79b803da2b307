package authzconfig

import (
	"testing"

	authorizationcel "k8s.io/apiserver/pkg/authorization/cel"
)

func FuzzConfiguration(f *testing.F) {
	f.Add([]byte(head + webhook("/k", "first", `, matchConditions: [{expression: "request.user == 'eve'"}]`) + "- {type: RBAC, name: rbac}\n"))
	f.Add([]byte(head + "- {type: Node, name: a}\n- {type: Node, name: a}\n- {type: X}\n- {}\n"))
	f.Add([]byte("apiVersion: apiserver.config.k8s.io/v1\nkind: AuthorizationConfiguration\n"))
	compiler := authorizationcel.NewDefaultCompiler()
	f.Fuzz(func(t *testing.T, data []byte) {
		cfg, err := parse(data)
		if err != nil {
			return
		}
		c := checker{compiler: compiler}
		matchers, err := c.check(cfg)
		if err != nil {
			return
		}
		if len(cfg.Authorizers) == 0 || len(matchers) != len(cfg.Authorizers) {
			t.Fatalf("%q is valid with %d authorizers and %d matchers", data, len(cfg.Authorizers), len(matchers))
		}
		for i, a := range cfg.Authorizers {
			conditions := 0
			if a.Webhook != nil {
				conditions = len(a.Webhook.MatchConditions)
			}
			if (a.Type == Webhook) != (a.Webhook != nil) || (matchers[i] != nil) != (conditions > 0) {
				t.Fatalf("%q: authorizer %d is %+v with %v", data, i, a, matchers[i])
			}
		}
	})
}
