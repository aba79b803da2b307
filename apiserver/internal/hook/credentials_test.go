package hook

import (
	"context"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
)

// address resolves every service to one server.
type address string

func (a address) Resolve(context.Context, string, string, int32) (string, error) {
	return string(a), nil
}

func TestCredentials(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprintf(w, "{\"who\": %q}", r.Header.Get("Authorization"))
	}))
	defer server.Close()
	host := server.Listener.Addr().String()
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	file := func(users string) *Credentials {
		t.Helper()
		path := filepath.Join(t.TempDir(), "kubeconfig")
		if err := os.WriteFile(path, []byte("apiVersion: v1\nkind: Config\nusers:\n"+users), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := ReadCredentials(path)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	for name, x := range map[string]struct{ users, host, want string }{
		"its own name":          {"- {name: hook.ns.svc, user: {token: own}}\n- {name: '*', user: {token: any}}\n", "hook.ns.svc:443", "Bearer own"},
		"with its port":         {"- {name: 'hook.ns.svc:8443', user: {token: own}}\n", "hook.ns.svc:8443", "Bearer own"},
		"not without it":        {"- {name: hook.ns.svc, user: {token: own}}\n", "hook.ns.svc:8443", ""},
		"a part of it":          {"- {name: '*.svc', user: {token: svc}}\n- {name: '*', user: {token: any}}\n", "hook.ns.svc:443", "Bearer svc"},
		"the nearest part":      {"- {name: '*.svc', user: {token: svc}}\n- {name: '*.ns.svc', user: {token: ns}}\n", "hook.ns.svc:443", "Bearer ns"},
		"anybody":               {"- {name: '*', user: {username: u, password: p}}\n", "hook.ns.svc:443", "Basic dTpw"},
		"the current context's": {"- {name: me, user: {token: mine}}\ncontexts: [{name: c, context: {user: me}}]\ncurrent-context: c\n", "hook.ns.svc:443", "Bearer mine"},
		"nobody":                {"- {name: other, user: {token: t}}\n", "hook.ns.svc:443", ""},
	} {
		t.Run(name, func(t *testing.T) {
			c := file(x.users)
			trip, err := c.wrap(x.host, server.Client().Transport.(*http.Transport).Clone())
			if err != nil {
				t.Fatal(err)
			}
			var out struct{ Who string }
			caller := New(address(host), nil, c, nil)
			caller.clients = map[string]*http.Client{}
			resp, err := (&http.Client{Transport: trip}).Get(server.URL)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = resp.Body.Close() }()
			if _, err := fmt.Fscanf(resp.Body, "{\"who\": %q}", &out.Who); err != nil || out.Who != x.want {
				t.Errorf("%q, %v; want %q", out.Who, err, x.want)
			}
		})
	}
	// A whole call, to a URL whose host has a user.
	var out struct{ Who string }
	c := New(address(host), nil, file("- {name: '"+host+"', user: {token: mine}}\n"), nil)
	if err := c.Call(t.Context(), Target{URL: server.URL, CABundle: ca}, struct{}{}, &out); err != nil || out.Who != "Bearer mine" {
		t.Errorf("%q, %v", out.Who, err)
	}
	out.Who = ""
	if err := New(address(host), nil, nil, nil).Call(t.Context(), Target{URL: server.URL, CABundle: ca}, struct{}{}, &out); err != nil || out.Who != "" {
		t.Errorf("without credentials: %q, %v", out.Who, err)
	}
}

func TestRedirects(t *testing.T) {
	elsewhere := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("another host is called") }))
	defer elsewhere.Close()
	mux := http.NewServeMux()
	mux.HandleFunc("/validate", func(w http.ResponseWriter, r *http.Request) { _, _ = fmt.Fprintf(w, "{\"who\": %q}", r.Method) })
	mux.Handle("/away", http.RedirectHandler(elsewhere.URL, http.StatusTemporaryRedirect))
	mux.Handle("/round", http.RedirectHandler("/round", http.StatusTemporaryRedirect))
	server := httptest.NewTLSServer(mux)
	defer server.Close()
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	c := New(address(""), nil, nil, nil)
	for path, ok := range map[string]bool{"//validate": true, "/away": false, "/round": false} {
		var out struct{ Who string }
		err := c.Call(t.Context(), Target{URL: server.URL + path, CABundle: ca}, struct{}{}, &out)
		if (err == nil) != ok || ok && out.Who != http.MethodPost {
			t.Errorf("%s: %q, %v", path, out.Who, err)
		}
	}
}
