package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// dial opens a TLS connection, and asks for a protocol.
func (t *target) dial(ctx context.Context, protocol string) (*tls.Conn, error) {
	d := tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true, NextProtos: []string{protocol}}} // made for this run alone
	c, err := d.DialContext(ctx, "tcp", t.Base[len("https://"):])
	if err != nil {
		return nil, err
	}
	if deadline, ok := ctx.Deadline(); ok {
		if err := c.SetDeadline(deadline); err != nil {
			return nil, err
		}
	}
	return c.(*tls.Conn), nil
}

// raw sends bytes that a client would not, and answers with the code.
func raw(text string) func(context.Context, *target) (answers, error) {
	return func(ctx context.Context, t *target) (answers, error) {
		c, err := t.dial(ctx, "http/1.1")
		if err != nil {
			return nil, err
		}
		defer func() { _ = c.Close() }()
		// What is refused early is not read to its end.
		_, _ = c.Write([]byte(text))
		return one(codeOf(c)), nil
	}
}

// codeOf reads an answer of HTTP/1.1.
func codeOf(c net.Conn) string {
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	var late net.Error
	if errors.As(err, &late) && late.Timeout() {
		return silent
	}
	if err != nil {
		return closed
	}
	_ = resp.Body.Close()
	return strconv.Itoa(resp.StatusCode)
}

// line is a request without a body, whose path is sent as it is.
func line(method, path, token string) string {
	return method + " " + path + " HTTP/1.1\r\nHost: abuse\r\nAuthorization: Bearer " + token + "\r\nConnection: close\r\n\r\n"
}

// paths lead elsewhere than they say. Mallory may read config maps in the namespace a.
func paths() []attack {
	const group = "Paths"
	var list []attack
	for _, x := range []struct {
		method, path, token string
		want                []string
	}{
		{"GET", "/api/v1/namespaces/a/configmaps/../../abuse/secrets/hidden", malloryToken, []string{"403", "404", "400", "301"}},
		{"GET", "/api/v1/namespaces/a/../abuse/secrets/hidden", malloryToken, []string{"403", "404", "400", "301"}},
		{"GET", "/api/v1/namespaces/a/configmaps/..%2f..%2fabuse%2fsecrets%2fhidden", malloryToken, []string{"403", "404", "400"}},
		{"GET", "/api/v1/namespaces/a%2fconfigmaps/../../abuse/secrets/hidden", malloryToken, []string{"403", "404", "400", "301"}},
		{"GET", "/api/v1/namespaces/a/configmaps/%2e%2e/%2e%2e/abuse/secrets/hidden", malloryToken, []string{"403", "404", "400", "301"}},
		{"GET", "/api/v1/namespaces/a%2f..%2fabuse/configmaps/victim", malloryToken, []string{"403", "404", "400"}},
		{"GET", "/api/v1/namespaces/..%2fabuse/configmaps/victim", malloryToken, []string{"403", "404", "400"}},
		{"GET", "/api/v1/namespaces//configmaps", malloryToken, []string{"403", "404", "400", "301"}},
		{"GET", "//api/v1/namespaces/abuse/configmaps/victim", malloryToken, []string{"403", "404", "400", "301"}},
		{"GET", "/api/v1/namespaces/a//configmaps//x", malloryToken, []string{"403", "404", "400", "301"}},
		{"GET", "/./api/v1/namespaces/abuse/configmaps/victim", malloryToken, []string{"403", "404", "400", "301"}},
		{"GET", "/version/../api/v1/namespaces/abuse/configmaps/victim", malloryToken, []string{"403", "404", "400", "301"}},
		{"GET", "/healthz/../../api/v1/namespaces/abuse/secrets/hidden", nobody, []string{"401", "403", "404", "400", "301"}},
		{"GET", "/healthz%2f..%2f..%2fapi/v1/secrets", nobody, []string{"401", "403", "404", "400", "301"}},
		{"DELETE", "/api/v1/namespaces/abuse/configmaps/..", janeToken, []string{"404", "400"}},
		{"DELETE", "/api/v1/namespaces/abuse/configmaps/%2e", janeToken, []string{"404", "400"}},
		{"DELETE", "/api/v1/namespaces/abuse/configmaps/victim%00", janeToken, []string{"404", "400"}},
		{"DELETE", "/api/v1/namespaces/abuse/configmaps/victi", janeToken, []string{"404"}},
		{"DELETE", "/api/v1/namespaces/abuse/configmaps/none%2f", janeToken, []string{"404", "405", "400"}},
		{"DELETE", "/api/v1/namespaces/..%2fconfigmaps%2fabuse/configmaps/victim", janeToken, []string{"404", "405", "400"}},
		{"GET", "/api/v1/namespaces/abuse/configmaps/a%ffb", janeToken, []string{"404", "400"}},
		{"GET", "/api/v1/namespaces/abuse/configmaps/%zz", janeToken, []string{"400"}},
		{"GET", "/api/v1/namespaces/abuse/configmaps/\x00", janeToken, []string{"400"}},
		{"GET", "/api/v1/namespaces/abuse/configmaps/\xff", janeToken, []string{"404", "400"}},
		{"GET", "/api/v1/namespaces/abuse/configmaps/" + strings.Repeat("a/", 100_000), janeToken, []string{"404", "400"}},
		{"GET", "/api/v1/namespaces/abuse/pods/pod/proxy/../../../../../../healthz", malloryToken, []string{"403", "404", "400", "301"}},
		{"GET", "http://elsewhere.example/api/v1/namespaces/abuse/secrets/hidden", malloryToken, []string{"403", "400"}},
		{"GET", "api/v1/secrets", malloryToken, []string{"400", "403", "404"}},
		{"OPTIONS", "*", malloryToken, []string{"200", "403", "404", "400"}},
		{"CONNECT", "127.0.0.1:2379", malloryToken, []string{"400", "403", "404", "405"}},
		{"TRACE", "/api/v1/namespaces/a/configmaps/x", malloryToken, []string{"403", "405", "404"}},
		{"GE T", "/api", janeToken, []string{"400"}},
	} {
		list = append(list, attack{group: group, name: fmt.Sprintf("%s %.90q", x.method, x.path), want: x.want, run: raw(line(x.method, x.path, x.token))})
	}
	for name, want := range map[string]string{"..": "422", ".": "422", "a/b": "422", "a%b": "422", "a\x00b": "201", strings.Repeat("a", 1_000_000): "413"} { // upstream takes the NUL too, which ends no key
		body, _ := json.Marshal(map[string]any{"metadata": map[string]any{"name": name}, "rules": []any{}}) // texts alone
		list = append(list, attack{group: group, name: fmt.Sprintf("a role named %.20q", name), want: []string{want}, stores: []string{"/registry/roles/abuse/"}, run: ask(post("/apis/rbac.authorization.k8s.io/v1/namespaces/abuse/roles", "", string(body)))})
	}
	return list
}

// colliding are names that begin as others do.
func colliding() []attack {
	const group = "Names that begin as others"
	const own = "/apis/abuse.example.com/v1/namespaces/a/"
	with := func(path, namespace string) attack {
		return attack{group: group, name: "list " + path, want: []string{fine}, run: keeps(get(path).as(malloryToken), namespace)}
	}
	return []attack{
		with("/api/v1/namespaces/a/configmaps", "a"), with("/api/v1/namespaces/a/configmaps?limit=2", "a"), with("/api/v1/namespaces/a/configmaps?resourceVersion=0", "a"), with(own+"foos", "a"),
		{group: group, name: "a list goes on in the namespace beside", want: []string{"400"}, run: ask(get("/api/v1/namespaces/a/configmaps?limit=2&continue=eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6LTEsInN0YXJ0IjoiYS1iL3gifQ").as(malloryToken))},
		{group: group, name: "a watch of the namespace beside", want: []string{"403"}, run: ask(get("/api/v1/namespaces/a-b/configmaps?watch=1&timeoutSeconds=1").as(malloryToken))},
		{group: group, name: "the plural of another kind", want: []string{"403"}, run: ask(get(own + "foosballs").as(malloryToken))},
		{group: group, name: "half a plural", want: []string{"404"}, run: ask(get(own + "foosb"))},
		{group: group, name: "half a group", want: []string{"404"}, run: ask(get("/apis/abuse.example.co/v1/namespaces/a/foos"))},
		{group: group, name: "half a name", want: []string{"404"}, run: ask(get("/api/v1/namespaces/a/configmaps/x-"))},
		{
			group: group, name: "a namespace's objects are deleted, those beside it are there", want: []string{fine}, stores: []string{"/registry/configmaps/a/"},
			run: deleted("/api/v1/namespaces/a/configmaps", "/registry/configmaps/a/", "/registry/configmaps/a-b/", "/registry/configmaps/ab/"),
		},
		{
			group: group, name: "a definition is deleted, the objects of one that begins as it are there", want: []string{fine},
			stores: []string{"/registry/abuse.example.com/foos/", "/registry/apiextensions.k8s.io/customresourcedefinitions/foos.abuse.example.com"},
			run:    deleted(crds+"/foos.abuse.example.com", "/registry/abuse.example.com/foos/", "/registry/abuse.example.com/foosballs/a/"),
		},
	}
}

// within is ok where a list has objects, all of one namespace.
func within(list []byte, namespace string) string {
	var l struct {
		Items []struct {
			Metadata struct {
				Namespace string `json:"namespace"`
			} `json:"metadata"`
		} `json:"items"`
	}
	if err := json.Unmarshal(list, &l); err != nil || len(l.Items) == 0 {
		return "nothing"
	}
	for _, it := range l.Items {
		if it.Metadata.Namespace != namespace {
			return "leaks " + it.Metadata.Namespace
		}
	}
	return fine
}

// deleted is ok where a deletion takes what has one prefix, and leaves what has others.
func deleted(path, gone string, left ...string) func(context.Context, *target) (answers, error) {
	return func(ctx context.Context, t *target) (answers, error) {
		if _, err := t.must(ctx, "DELETE", path, ""); err != nil {
			return nil, err
		}
		for {
			keys, err := t.keys(ctx)
			if err != nil {
				return nil, err
			}
			count := func(prefix string) (n int) {
				for key := range keys {
					if strings.HasPrefix(key, prefix) {
						n++
					}
				}
				return n
			}
			if slices.ContainsFunc(left, func(p string) bool { return count(p) == 0 }) {
				return one("took more"), nil
			}
			if count(gone) == 0 {
				return one(fine), nil
			}
			if err := pause(ctx); err != nil {
				return nil, err
			}
		}
	}
}
