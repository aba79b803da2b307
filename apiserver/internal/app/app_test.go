package app_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"

	"flagship/apiserver/internal/app"
	"flagship/apiserver/internal/config"
	"flagship/apiserver/internal/store"
	"flagship/apiserver/internal/wire"
)

// cluster is a running kube-apiserver with an embedded etcd, on loopback.
type cluster struct {
	t      *testing.T
	base   string
	client *http.Client
	// stop ends the server.
	stop func()
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func signingKey(t *testing.T, path string) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	block := &pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}
	if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
}

// startCluster runs a kube-apiserver on the etcd that the flags name, or with
// one of its own.
func startCluster(t *testing.T, etcd ...string) *cluster {
	t.Helper()
	dir := t.TempDir()
	if etcd == nil {
		etcd = []string{
			"--etcd-data-dir=" + filepath.Join(dir, "etcd"), "--etcd-unsafe-no-fsync", fmt.Sprintf("--etcd-listen-client-url=http://127.0.0.1:%d", freePort(t)),
			fmt.Sprintf("--etcd-listen-peer-url=http://127.0.0.1:%d", freePort(t)),
		}
	}
	signingKey(t, filepath.Join(dir, "sa.key"))
	if err := os.WriteFile(filepath.Join(dir, "tokens.csv"), []byte("admin,admin,1,system:masters\njane,jane,2\nn1,system:node:n1,3,system:nodes\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	port := freePort(t)
	cfg, set, err := config.Load(slices.Concat([]string{
		fmt.Sprintf("--secure-port=%d", port), "--bind-address=127.0.0.1", "--advertise-address=127.0.0.1",
		"--cert-dir=" + dir, "--service-account-issuer=https://kubernetes.default.svc", "--service-account-signing-key-file=" + filepath.Join(dir, "sa.key"),
		"--token-auth-file=" + filepath.Join(dir, "tokens.csv"), "--authorization-mode=Node,RBAC",
		"--enable-admission-plugins=NodeRestriction", "--service-cluster-ip-range=10.96.0.0/16",
	}, etcd), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- app.Run(ctx, cfg, set) }()
	c := &cluster{t: t, stop: cancel, base: fmt.Sprintf("https://127.0.0.1:%d", port), client: &http.Client{
		// The server's certificate was made a moment ago for this test alone.
		Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: true}, //nolint:gosec // see above
	}}
	t.Cleanup(func() {
		cancel()
		c.client.CloseIdleConnections()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	})
	c.awaitReady(done)
	return c
}

func (c *cluster) awaitReady(done <-chan error) {
	c.t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(30 * time.Second)
	for {
		select {
		case err := <-done:
			c.t.Fatalf("the server ended: %v", err)
		case <-deadline:
			c.t.Fatal("the server is not ready after 30 s")
		case <-tick.C:
			resp, err := c.client.Get(c.base + "/readyz")
			if err != nil {
				continue
			}
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return
			}
		}
	}
}

// call sends one request and returns the code and the body.
func (c *cluster) call(method, path, token, contentType, accept, body string) (int, []byte) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	req.Header.Set("Accept", accept)
	resp, err := c.client.Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return resp.StatusCode, data
}

// json sends one request as admin and decodes the answer.
func (c *cluster) json(method, path, contentType, body string, wantCode int) map[string]any {
	c.t.Helper()
	code, data := c.call(method, path, "admin", contentType, "application/json", body)
	if code != wantCode {
		c.t.Fatalf("%s %s: %d, want %d: %s", method, path, code, wantCode, data)
	}
	out := map[string]any{}
	if err := json.Unmarshal(data, &out); err != nil {
		c.t.Fatalf("%s %s: %v: %s", method, path, err, data)
	}
	return out
}

func at(v any, path ...string) any {
	for _, p := range path {
		m, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = m[p]
	}
	return v
}

func (c *cluster) want(v any, want any, path ...string) {
	c.t.Helper()
	if got := at(v, path...); fmt.Sprint(got) != fmt.Sprint(want) {
		c.t.Errorf("%s: %v, want %v", strings.Join(path, "."), got, want)
	}
}

const (
	configMaps = "/api/v1/namespaces/default/configmaps"
	jsonType   = "application/json"
)

func TestServer(t *testing.T) {
	c := startCluster(t)
	for _, scenario := range []struct {
		name string
		run  func(*cluster)
	}{
		{"an object lives from creation to deletion", lifeOfAnObject},
		{"four kinds of patch", patches},
		{"apply tells conflicts and owners", applies},
		{"lists come in pages and by selector", lists},
		{"a watch tells changes and bookmarks", watches},
		{"bad requests change nothing", badRequests},
		{"identity and rights", identities},
		{"forms of an answer", forms},
		{"services get addresses", services},
		{"deletion waits for finalizers", finalizers},
		{"a pod's certificate is issued by its signer alone", podCertificates},
		{"a node asks for its pods' certificates", podCertificatesOfNode},
	} {
		t.Run(scenario.name, func(t *testing.T) {
			scenario.run(&cluster{t: t, base: c.base, client: c.client})
		})
	}
}

// TestExternalStore runs two servers on one etcd cluster that is none of theirs:
// what one has acknowledged, the other reads.
func TestExternalStore(t *testing.T) {
	url := fmt.Sprintf("http://127.0.0.1:%d", freePort(t))
	peer := fmt.Sprintf("http://127.0.0.1:%d", freePort(t))
	etcd, err := store.StartEmbedded(t.Context(), store.EmbeddedConfig{DataDir: t.TempDir(), Name: "etcd", ClientURL: url, PeerURL: peer, PeerAdvertise: peer, Unsafe: true}, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(etcd.Close)
	one, two := startCluster(t, "--etcd-servers="+url, "--advertise-address=192.0.2.1"), startCluster(t, "--etcd-servers="+url, "--advertise-address=192.0.2.2")
	for i := range 20 {
		name := fmt.Sprintf("shared-%d", i)
		one.json("POST", configMaps, jsonType, `{"metadata":{"name":"`+name+`"},"data":{"n":"1"}}`, 201)
		two.want(two.json("GET", configMaps+"/"+name, "", "", 200), "1", "data", "n")
		two.json("PATCH", configMaps+"/"+name, "application/merge-patch+json", `{"data":{"n":"2"}}`, 200)
		list := one.json("GET", configMaps+"?fieldSelector=metadata.name%3D"+name, "", "", 200)
		items, _ := list["items"].([]any)
		if len(items) != 1 || at(items[0], "data", "n") != "2" {
			t.Fatalf("what the other server has written: %v", items)
		}
	}
	// The identity of a server that is long gone is forgotten when one starts, and what is no identity stays.
	lease := `{"metadata":{"name":"%s","labels":{"apiserver.kubernetes.io/identity":"%s"}},"spec":{"leaseDurationSeconds":1,"renewTime":"2020-01-01T00:00:00.000000Z"}}`
	const leases = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases"
	one.json("POST", leases, jsonType, fmt.Sprintf(lease, "gone", "kube-apiserver"), 201)
	one.json("POST", leases, jsonType, fmt.Sprintf(lease, "other", "other"), 201)
	three := startCluster(t, "--etcd-servers="+url, "--advertise-address=192.0.2.3")
	three.until("its lease is deleted", func() bool {
		code, _ := three.call("GET", leases+"/gone", "admin", "", jsonType, "")
		return code == 404
	})
	one.json("GET", leases+"/other", "", "", 200)
	// Both are behind the kubernetes service, and one that stops is not, at once.
	serve := func(want string) {
		t.Helper()
		one.until("the servers are "+want, func() bool {
			endpoints := one.json("GET", "/api/v1/namespaces/default/endpoints/kubernetes", "", "", 200)
			slice := one.json("GET", "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes", "", "", 200)
			subsets, _ := at(endpoints, "subsets").([]any)
			return len(subsets) == 1 && fmt.Sprint(at(subsets[0], "addresses")) == "["+want+"]" && len(at(slice, "endpoints").([]any)) == len(at(subsets[0], "addresses").([]any))
		})
	}
	serve("map[ip:192.0.2.1] map[ip:192.0.2.2] map[ip:192.0.2.3]")
	two.stop()
	serve("map[ip:192.0.2.1] map[ip:192.0.2.3]")
}

func lifeOfAnObject(c *cluster) {
	made := c.json("POST", configMaps, jsonType, `{"metadata":{"generateName":"life-"},"data":{"a":"1"}}`, 201)
	name := fmt.Sprint(at(made, "metadata", "name"))
	if !strings.HasPrefix(name, "life-") || len(name) != len("life-")+5 {
		c.t.Errorf("generated name %q", name)
	}
	rv := fmt.Sprint(at(made, "metadata", "resourceVersion"))
	got := c.json("GET", configMaps+"/"+name, "", "", 200)
	c.want(got, rv, "metadata", "resourceVersion")
	c.want(got, "ConfigMap", "kind")
	dry := c.json("PUT", configMaps+"/"+name+"?dryRun=All", jsonType, `{"metadata":{"name":"`+name+`"},"data":{"a":"2"}}`, 200)
	c.want(dry, "2", "data", "a")
	c.want(c.json("GET", configMaps+"/"+name, "", "", 200), "1", "data", "a")
	stale := c.json("PUT", configMaps+"/"+name, jsonType, `{"metadata":{"name":"`+name+`","resourceVersion":"1"},"data":{}}`, 409)
	c.want(stale, "Conflict", "reason")
	// A version of "0" is none, as kubeadm's Service of the DNS has it.
	c.json("POST", configMaps, jsonType, `{"metadata":{"name":"versioned","resourceVersion":"1"}}`, 400)
	c.json("POST", configMaps+"?dryRun=All", jsonType, `{"metadata":{"name":"versioned","resourceVersion":"1"}}`, 201)
	zero := c.json("POST", configMaps, jsonType, `{"metadata":{"name":"versioned","resourceVersion":"0"}}`, 201)
	if rv := at(zero, "metadata", "resourceVersion"); rv == nil || rv == "0" {
		c.t.Errorf("made with the version %v", rv)
	}
	zero = c.json("PUT", configMaps+"/versioned", jsonType, `{"metadata":{"name":"versioned","resourceVersion":"0"},"data":{"a":"2"}}`, 200)
	c.want(zero, "2", "data", "a")
	c.want(c.json("DELETE", configMaps+"/"+name, "", "", 200), "Success", "status")
	c.want(c.json("GET", configMaps+"/"+name, "", "", 404), fmt.Sprintf("configmaps %q not found", name), "message")
}

func patches(c *cluster) {
	c.json("POST", "/apis/apps/v1/namespaces/default/deployments", jsonType, `{"metadata":{"name":"d"},"spec":{"selector":{"matchLabels":{"a":"b"}},"template":{"metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"name":"c","image":"i:1"}]}}}}`, 201)
	path := "/apis/apps/v1/namespaces/default/deployments/d"
	d := c.json("PATCH", path, "application/strategic-merge-patch+json", `{"spec":{"template":{"spec":{"containers":[{"name":"e","image":"j:1"}]}}}}`, 200)
	if n := len(at(d, "spec", "template", "spec", "containers").([]any)); n != 2 {
		c.t.Errorf("strategic merge made %d containers, want 2", n)
	}
	c.want(d, 2, "metadata", "generation")
	d = c.json("PATCH", path, "application/merge-patch+json", `{"spec":{"replicas":3}}`, 200)
	c.want(d, 3, "spec", "replicas")
	d = c.json("PATCH", path, "application/json-patch+json", `[{"op":"replace","path":"/spec/replicas","value":4}]`, 200)
	c.want(d, 4, "spec", "replicas")
	s := c.json("PATCH", path+"/status", "application/merge-patch+json", `{"spec":{"replicas":9},"status":{"replicas":1}}`, 200)
	c.want(s, 4, "spec", "replicas")
	c.want(s, 1, "status", "replicas")
	c.want(s, 4, "metadata", "generation")
	sc := c.json("PUT", path+"/scale", jsonType, `{"kind":"Scale","apiVersion":"autoscaling/v1","metadata":{"name":"d","namespace":"default"},"spec":{"replicas":7}}`, 200)
	c.want(sc, 7, "spec", "replicas")
}

func applies(c *cluster) {
	path := configMaps + "/applied?fieldManager="
	const apply = "application/apply-patch+yaml"
	body := "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: applied}\ndata: {k: \"%s\"}\n"
	c.json("PATCH", path+"one", apply, fmt.Sprintf(body, "1"), 201)
	conflict := c.json("PATCH", path+"two", apply, fmt.Sprintf(body, "2"), 409)
	if m := fmt.Sprint(at(conflict, "message")); !strings.Contains(m, `conflict with "one": .data.k`) {
		c.t.Errorf("message %q", m)
	}
	forced := c.json("PATCH", path+"two&force=true", apply, fmt.Sprintf(body, "2"), 200)
	c.want(forced, "2", "data", "k")
	fields := at(forced, "metadata", "managedFields").([]any)
	c.want(fields[len(fields)-1], "two", "manager")
	// Through a Scale too the number of replicas is owned.
	deployment := "/apis/apps/v1/namespaces/default/deployments/owned"
	c.json("PATCH", deployment+"?fieldManager=one", apply, `{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"owned"},"spec":{"replicas":1,"selector":{"matchLabels":{"a":"b"}},"template":{"metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"name":"c","image":"i"}]}}}}`, 201)
	scale := `{"apiVersion":"autoscaling/v1","kind":"Scale","metadata":{"name":"owned","namespace":"default"},"spec":{"replicas":5}}`
	conflict = c.json("PATCH", deployment+"/scale?fieldManager=two", apply, scale, 409)
	c.want(conflict, `Apply failed with 1 conflict: conflict with "one": .spec.replicas`, "message")
	c.want(c.json("PATCH", deployment+"/scale?fieldManager=two&force=true", apply, scale, 200), 5, "spec", "replicas")
	entries := at(c.json("GET", deployment, "", "", 200), "metadata", "managedFields").([]any)
	c.want(entries[0], "map[f:spec:map[f:replicas:map[]]]", "fieldsV1")
	c.want(entries[0], "scale", "subresource")
}

func lists(c *cluster) {
	c.json("POST", "/api/v1/namespaces", jsonType, `{"metadata":{"name":"lists"}}`, 201)
	path := "/api/v1/namespaces/lists/configmaps"
	for i := range 5 {
		c.json("POST", path, jsonType, fmt.Sprintf(`{"metadata":{"name":"c%d","labels":{"odd":"%t"}}}`, i, i%2 == 1), 201)
	}
	names, token := "", ""
	for range 3 {
		l := c.json("GET", path+"?limit=2&continue="+token, "", "", 200)
		for _, it := range at(l, "items").([]any) {
			names += fmt.Sprint(at(it, "metadata", "name")) + " "
		}
		if token, _ = at(l, "metadata", "continue").(string); token == "" {
			break
		}
	}
	if names != "c0 c1 c2 c3 c4 " {
		c.t.Errorf("pages: %q", names)
	}
	count := func(query string) int {
		return len(at(c.json("GET", path+query, "", "", 200), "items").([]any))
	}
	if n := count("?labelSelector=odd%3Dtrue"); n != 2 {
		c.t.Errorf("label selector: %d, want 2", n)
	}
	if n := count("?fieldSelector=metadata.name%3Dc3"); n != 1 {
		c.t.Errorf("field selector: %d, want 1", n)
	}
	c.json("GET", path+"?fieldSelector=data%3Dx", "", "", 400)
	c.json("GET", path+"?continue=nonsense", "", "", 400)
	c.json("DELETE", path+"?labelSelector=odd%3Dtrue", "", "", 200)
	if n := count(""); n != 3 {
		c.t.Errorf("after deletecollection: %d, want 3", n)
	}
}

func watches(c *cluster) {
	ctx, cancel := context.WithTimeout(c.t.Context(), 20*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, "GET", c.base+configMaps+"?watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&labelSelector=w%3D1", nil)
	if err != nil {
		c.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer admin")
	resp, err := c.client.Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 1<<20)
	next := func() map[string]any {
		if !lines.Scan() {
			c.t.Fatalf("watch ended: %v", lines.Err())
		}
		out := map[string]any{}
		if err := json.Unmarshal(lines.Bytes(), &out); err != nil {
			c.t.Fatal(err)
		}
		return out
	}
	end := next()
	c.want(end, "BOOKMARK", "type")
	c.want(end, "true", "object", "metadata", "annotations", "k8s.io/initial-events-end")
	c.json("POST", configMaps, jsonType, `{"metadata":{"name":"w","labels":{"w":"1"}}}`, 201)
	c.want(next(), "ADDED", "type")
	c.json("PATCH", configMaps+"/w", "application/merge-patch+json", `{"data":{"a":"b"}}`, 200)
	c.want(next(), "MODIFIED", "type")
	c.json("PATCH", configMaps+"/w", "application/merge-patch+json", `{"metadata":{"labels":null}}`, 200)
	left := next()
	c.want(left, "DELETED", "type")
	c.want(left, "1", "object", "metadata", "labels", "w")
}

func badRequests(c *cluster) {
	for _, tc := range []struct {
		name, method, path, contentType, body string
		code                                  int
		message                               string
	}{
		{"not JSON", "POST", configMaps, jsonType, "{", 400, "unexpected"},
		{"another kind", "POST", configMaps, jsonType, `{"kind":"Secret","apiVersion":"v1","metadata":{"name":"x"}}`, 400, "Secret"},
		{"another version", "POST", configMaps, jsonType, `{"kind":"ConfigMap","apiVersion":"v2","metadata":{"name":"x"}}`, 400, "v2"},
		{"another namespace", "POST", configMaps, jsonType, `{"metadata":{"name":"x","namespace":"other"}}`, 400, "namespace"},
		{"bad name", "POST", configMaps, jsonType, `{"metadata":{"name":"Not_A_Name"}}`, 422, "metadata.name"},
		{"no name", "POST", configMaps, jsonType, `{}`, 422, "name or generateName is required"},
		{"unknown field", "POST", configMaps + "?fieldValidation=Strict", jsonType, `{"metadata":{"name":"x"},"dat":{}}`, 400, `unknown field "dat"`},
		{"unknown media type", "POST", configMaps, "text/plain", "x", 415, "media types"},
		{"namespace that is not there", "POST", "/api/v1/namespaces/nowhere/configmaps", jsonType, `{"metadata":{"name":"x"}}`, 404, `namespaces "nowhere" not found`},
		{"malformed protobuf", "POST", configMaps, "application/vnd.kubernetes.protobuf", "k8s\x00\xff\xff", 400, ""},
		{"bad dry run", "POST", configMaps + "?dryRun=Some", jsonType, `{"metadata":{"name":"x"}}`, 422, "dryRun"},
		{"too large", "POST", configMaps, jsonType, `{"metadata":{"name":"x"},"data":{"a":"` + strings.Repeat("x", 3<<20) + `"}}`, 413, "limit"},
		{"method", "PUT", configMaps, jsonType, "{}", 405, ""},
	} {
		code, data := c.call(tc.method, tc.path, "admin", tc.contentType, jsonType, tc.body)
		if code != tc.code || !bytes.Contains(data, []byte(strings.ReplaceAll(tc.message, `"`, `\"`))) {
			c.t.Errorf("%s: %d %.300s; want %d with %q", tc.name, code, data, tc.code, tc.message)
		}
	}
	c.json("GET", configMaps+"/x", "", "", 404)
}

func identities(c *cluster) {
	if code, _ := c.call("GET", configMaps, "wrong", "", jsonType, ""); code != 401 {
		c.t.Errorf("wrong token: %d, want 401", code)
	}
	code, data := c.call("GET", configMaps, "jane", "", jsonType, "")
	if code != 403 || !bytes.Contains(data, []byte(`configmaps is forbidden: User \"jane\" cannot list resource \"configmaps\" in API group \"\" in the namespace \"default\"`)) {
		c.t.Errorf("without rights: %d %s", code, data)
	}
	c.json("POST", "/apis/rbac.authorization.k8s.io/v1/namespaces/default/roles", jsonType, `{"metadata":{"name":"r"},"rules":[{"verbs":["list","create"],"apiGroups":[""],"resources":["configmaps"]},{"verbs":["create"],"apiGroups":["rbac.authorization.k8s.io"],"resources":["roles"]}]}`, 201)
	c.json("POST", "/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings", jsonType, `{"metadata":{"name":"r"},"roleRef":{"kind":"Role","name":"r"},"subjects":[{"kind":"User","name":"jane"}]}`, 201)
	deadline := time.Now().Add(10 * time.Second)
	for code != 200 && time.Now().Before(deadline) {
		code, _ = c.call("GET", configMaps, "jane", "", jsonType, "")
	}
	if code != 200 {
		c.t.Errorf("with rights: %d", code)
	}
	code, data = c.call("POST", "/apis/rbac.authorization.k8s.io/v1/namespaces/default/roles", "jane", jsonType, jsonType, `{"metadata":{"name":"more"},"rules":[{"verbs":["get"],"apiGroups":[""],"resources":["secrets"]}]}`)
	if code != 403 || !bytes.Contains(data, []byte("attempting to grant RBAC permissions not currently held")) {
		c.t.Errorf("escalation: %d %s", code, data)
	}
	c.json("POST", "/api/v1/namespaces/default/serviceaccounts", jsonType, `{"metadata":{"name":"robot"}}`, 201)
	tok := c.json("POST", "/api/v1/namespaces/default/serviceaccounts/robot/token", jsonType, `{"spec":{"expirationSeconds":600}}`, 201)
	review := c.json("POST", "/apis/authentication.k8s.io/v1/tokenreviews", jsonType, fmt.Sprintf(`{"spec":{"token":%q}}`, at(tok, "status", "token")), 201)
	c.want(review, true, "status", "authenticated")
	c.want(review, "system:serviceaccount:default:robot", "status", "user", "username")
	c.json("POST", "/api/v1/namespaces/default/pods", jsonType, `{"metadata":{"name":"bound"},"spec":{"serviceAccountName":"robot","containers":[{"name":"c","image":"i:1"}]}}`, 201)
	tok = c.json("POST", "/api/v1/namespaces/default/serviceaccounts/robot/token", jsonType, `{"spec":{"boundObjectRef":{"kind":"Pod","apiVersion":"v1","name":"bound"}}}`, 201)
	review = c.json("POST", "/apis/authentication.k8s.io/v1/tokenreviews", jsonType, fmt.Sprintf(`{"spec":{"token":%q}}`, at(tok, "status", "token")), 201)
	c.want(at(review, "status", "user", "extra").(map[string]any)["authentication.kubernetes.io/pod-name"], "[bound]")
	c.json("POST", "/api/v1/namespaces/default/pods/bound/binding", jsonType, `{"metadata":{"name":"bound"},"target":{"kind":"Node","name":"n1"}}`, 201)
	c.want(c.json("GET", "/api/v1/namespaces/default/pods/bound", "", "", 200), "n1", "spec", "nodeName")
	can := c.json("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", jsonType, `{"spec":{"user":"jane","resourceAttributes":{"verb":"list","resource":"configmaps","namespace":"default"}}}`, 201)
	c.want(can, true, "status", "allowed")
}

func forms(c *cluster) {
	c.json("POST", configMaps, jsonType, `{"metadata":{"name":"forms"},"data":{"a":"b"}}`, 201)
	path := configMaps + "/forms"
	_, data := c.call("GET", path, "admin", "", "application/vnd.kubernetes.protobuf", "")
	_, kind, raw, _, err := wire.SplitEnvelope(data)
	if err != nil {
		c.t.Fatal(err)
	}
	cm := &corev1.ConfigMap{}
	if err := cm.Unmarshal(raw); err != nil || kind != "ConfigMap" || cm.Data["a"] != "b" || cm.ResourceVersion == "" {
		c.t.Errorf("protobuf: %s %+v, %v", kind, cm, err)
	}
	cm.Data["a"], cm.ManagedFields = "c", nil
	out, err := cm.Marshal()
	if err != nil {
		c.t.Fatal(err)
	}
	if code, data := c.call("PUT", path, "admin", "application/vnd.kubernetes.protobuf", jsonType, string(wire.AppendEnvelope(nil, "v1", "ConfigMap", out))); code != 200 {
		c.t.Errorf("protobuf update: %d %s", code, data)
	}
	if _, data := c.call("GET", path, "admin", "", "application/yaml", ""); !bytes.Contains(data, []byte("\nkind: ConfigMap\n")) {
		c.t.Errorf("YAML: %s", data)
	}
	_, data = c.call("GET", configMaps, "admin", "", "application/json;as=Table;v=v1;g=meta.k8s.io", "")
	if !bytes.HasPrefix(data, []byte(`{"kind":"Table"`)) || !bytes.Contains(data, []byte(`"columnDefinitions":[{"name":"Name"`)) {
		c.t.Errorf("table: %.200s", data)
	}
	_, data = c.call("GET", path, "admin", "", "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io", "")
	if !bytes.Contains(data, []byte(`"kind":"PartialObjectMetadata"`)) || bytes.Contains(data, []byte(`"data"`)) {
		c.t.Errorf("metadata: %s", data)
	}
	if code, _ := c.call("GET", path, "admin", "", "image/png", ""); code != 406 {
		c.t.Errorf("unknown form: %d, want 406", code)
	}
}

func services(c *cluster) {
	path := "/api/v1/namespaces/default/services"
	body := `{"metadata":{"name":"%s"},"spec":{"type":"NodePort","ports":[{"port":80}]%s}}`
	one := c.json("POST", path, jsonType, fmt.Sprintf(body, "one", ""), 201)
	ip := fmt.Sprint(at(one, "spec", "clusterIP"))
	port := at(at(one, "spec", "ports").([]any)[0], "nodePort")
	if !strings.HasPrefix(ip, "10.96.") || fmt.Sprint(port) < "30000" || fmt.Sprint(port) > "32767" {
		c.t.Errorf("address %s port %v", ip, port)
	}
	taken := c.json("POST", path, jsonType, fmt.Sprintf(body, "two", `,"clusterIP":"`+ip+`"`), 422)
	if m := fmt.Sprint(at(taken, "message")); !strings.Contains(m, "already allocated") {
		c.t.Errorf("message %q", m)
	}
	c.json("DELETE", path+"/one", "", "", 200)
	c.json("POST", path, jsonType, fmt.Sprintf(body, "two", `,"clusterIP":"`+ip+`"`), 201)
}

func finalizers(c *cluster) {
	c.json("POST", configMaps, jsonType, `{"metadata":{"name":"held","finalizers":["example.com/hold"]}}`, 201)
	held := c.json("DELETE", configMaps+"/held", "", "", 200)
	if at(held, "metadata", "deletionTimestamp") == nil {
		c.t.Errorf("no deletionTimestamp: %v", held)
	}
	c.json("PATCH", configMaps+"/held", "application/merge-patch+json", `{"metadata":{"finalizers":null}}`, 200)
	c.json("GET", configMaps+"/held", "", "", 404)
	ns := c.json("POST", "/api/v1/namespaces", jsonType, `{"metadata":{"name":"going"}}`, 201)
	c.want(ns, "Active", "status", "phase")
	going := c.json("DELETE", "/api/v1/namespaces/going", "", "", 200)
	c.want(going, "Terminating", "status", "phase")
	refused := c.json("POST", "/api/v1/namespaces/going/configmaps", jsonType, `{"metadata":{"name":"x"}}`, 403)
	if m := fmt.Sprint(at(refused, "message")); !strings.Contains(m, "because it is being terminated") {
		c.t.Errorf("message %q", m)
	}
	c.json("PUT", "/api/v1/namespaces/going/finalize", jsonType, `{"metadata":{"name":"going"},"spec":{"finalizers":[]}}`, 200)
	c.json("GET", "/api/v1/namespaces/going", "", "", 404)
}
