package main

import (
	"context"
	"fmt"
	"strings"
	"time"
)

const (
	// requestTimeout is what the servers get as --request-timeout, so that a run is short.
	requestTimeout = 15 * time.Second

	configMaps = "/api/v1/namespaces/abuse/configmaps"
	victim     = configMaps + "/victim"
	crds       = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
	open       = "/apis/abuse.example.com/v1/namespaces/abuse/opens"
)

// furnish makes what the attacks are about.
func (t *target) furnish(ctx context.Context) error {
	objects := [][2]string{
		{"/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", `{"metadata":{"name":"abuse-jane"},"roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"ClusterRole","name":"cluster-admin"},"subjects":[{"kind":"User","apiGroup":"rbac.authorization.k8s.io","name":"jane"}]}`},
		{"/api/v1/nodes", `{"metadata":{"name":"abuse"}}`},
		{"/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases", `{"metadata":{"name":"abuse","namespace":"kube-node-lease"},"spec":{"holderIdentity":"abuse","leaseDurationSeconds":40}}`},
		{crds, definition("opens", "Open", `{"type":"object","x-kubernetes-preserve-unknown-fields":true}`)},
		{crds, definition("foos", "Foo", `{"type":"object","properties":{"spec":{"type":"object","properties":{"text":{"type":"string","pattern":"^(a|a|aa)+$"},"list":{"type":"array","items":{"type":"string"}}}}}}`)},
		{crds, definition("foosballs", "Foosball", `{"type":"object"}`)},
	}
	for _, ns := range []string{"kube-node-lease", "abuse", "a", "a-b", "ab"} {
		objects = append(objects, [2]string{"/api/v1/namespaces", fmt.Sprintf(`{"metadata":{"name":%q}}`, ns)}, [2]string{"/api/v1/namespaces/" + ns + "/serviceaccounts", `{"metadata":{"name":"default"}}`})
	}
	for _, ns := range []string{"a", "a-b", "ab"} {
		for _, name := range []string{"x", "x-y", "xy"} {
			objects = append(objects, [2]string{"/api/v1/namespaces/" + ns + "/configmaps", fmt.Sprintf(`{"metadata":{"name":%q},"data":{"of":%q}}`, name, ns)})
			for _, plural := range [][2]string{{"foos", "Foo"}, {"foosballs", "Foosball"}} {
				objects = append(objects, [2]string{"/apis/abuse.example.com/v1/namespaces/" + ns + "/" + plural[0], fmt.Sprintf(`{"apiVersion":"abuse.example.com/v1","kind":%q,"metadata":{"name":%q}}`, plural[1], name)})
			}
		}
	}
	objects = append(objects,
		[2]string{configMaps, `{"metadata":{"name":"victim"},"data":{"a":"` + strings.Repeat("x", 1000) + `"}}`},
		[2]string{configMaps, `{"metadata":{"name":"large"},"data":{"a":"` + strings.Repeat("x", 900_000) + `"}}`},
		[2]string{"/api/v1/namespaces/abuse/secrets", `{"metadata":{"name":"hidden"}}`},
		[2]string{"/api/v1/namespaces/abuse/pods", `{"metadata":{"name":"pod"},"spec":{"automountServiceAccountToken":false,"containers":[{"name":"c","image":"i"}]}}`},
		[2]string{"/apis/rbac.authorization.k8s.io/v1/namespaces/a/roles", `{"metadata":{"name":"mallory"},"rules":[{"apiGroups":["","abuse.example.com"],"resources":["configmaps","foos"],"verbs":["*"]}]}`},
		[2]string{"/apis/rbac.authorization.k8s.io/v1/namespaces/a/rolebindings", `{"metadata":{"name":"mallory"},"roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"Role","name":"mallory"},"subjects":[{"kind":"User","apiGroup":"rbac.authorization.k8s.io","name":"mallory"}]}`},
	)
	for _, o := range objects {
		// Some namespaces are there from the start, or a moment later.
		if _, err := t.must(ctx, "POST", o[0], o[1]); err != nil && !strings.Contains(err.Error(), `"reason":"AlreadyExists"`) {
			return err
		}
	}
	return t.settle(ctx)
}

// settle waits until the server has written what it writes by itself at its start.
func (t *target) settle(ctx context.Context) error {
	before, err := t.keys(ctx)
	for range 20 {
		if err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Second):
		}
		after, err := t.keys(ctx)
		if err == nil && len(changed(before, after, nil)) == 0 {
			return nil
		}
		before = after
	}
	return fmt.Errorf("%s goes on writing by itself", t.Name)
}

// definition is a custom resource definition of a namespaced kind.
func definition(plural, kind, schema string) string {
	return definitions(plural, kind, `{"name":"v1","served":true,"storage":true,"schema":{"openAPIV3Schema":`+schema+`}}`)
}

func definitions(plural, kind, versions string) string {
	return fmt.Sprintf(`{"apiVersion":"apiextensions.k8s.io/v1","kind":"CustomResourceDefinition","metadata":{"name":"%s.abuse.example.com"},"spec":{"group":"abuse.example.com","scope":"Namespaced","names":{"plural":%q,"kind":%q},"versions":[%s]}}`, plural, plural, kind, versions)
}

// ask sends a request, and answers with its code.
func ask(r request) func(context.Context, *target) (answers, error) { return many(1, r) }

// many sends a request n times at once.
func many(n int, r request) func(context.Context, *target) (answers, error) {
	return func(ctx context.Context, t *target) (answers, error) {
		return parallel(n, func(int) (answers, error) {
			code, _, err := t.do(ctx, r)
			return one(code), err
		})
	}
}

// lazily sends a request that is large, and so made no earlier.
func lazily(n int, build func() request) func(context.Context, *target) (answers, error) {
	return func(ctx context.Context, t *target) (answers, error) { return many(n, build())(ctx, t) }
}

// parallel runs n of something at once and adds up what they answer.
func parallel(n int, run func(i int) (answers, error)) (answers, error) {
	type outcome struct {
		a   answers
		err error
	}
	outcomes := make(chan outcome, n)
	for i := range n {
		go func() {
			a, err := run(i)
			outcomes <- outcome{a, err}
		}()
	}
	sum := answers{}
	var failed error
	for range n {
		o := <-outcomes
		if o.err != nil {
			failed = o.err
			continue
		}
		sum.add(o.a)
	}
	return sum, failed
}

// post and the others are requests with a body.
func post(path, mime, body string) request {
	return request{method: "POST", path: path, mime: mime, body: []byte(body)}
}

func patch(path, mime, body string) request {
	return request{method: "PATCH", path: path, mime: mime, body: []byte(body)}
}

func get(path string) request { return request{method: "GET", path: path} }

// as has somebody else send a request.
func (r request) as(token string) request {
	r.token = token
	return r
}

// nested is n of open, a middle, and n of shut.
func nested(n int, open, middle, shut string) string {
	return strings.Repeat(open, n) + middle + strings.Repeat(shut, n)
}

// join is n texts with commas between them.
func join(n int, each func(i int) string) string {
	var b strings.Builder
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(each(i))
	}
	return b.String()
}
