package difftest

import (
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
	"os/exec"
	"path/filepath"
	"regexp"
	"sort"
	"strings"
	"testing"
	"time"
)

// side is one of the two servers.
type side struct {
	name string
	base string
	http *http.Client
}

// answer is what a server said.
type answer struct {
	code     int
	body     map[string]any
	warnings []string
}

const token = "difftest-token"

// freePorts are ports that nobody listened on a moment ago.
func freePorts(t *testing.T, n int) []int {
	t.Helper()
	out := make([]int, n)
	for i := range out {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		out[i] = l.Addr().(*net.TCPAddr).Port
	}
	return out
}

func (s *side) do(method, path, contentType string, body any) (answer, error) {
	var reader io.Reader
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			return answer{}, err
		}
		reader = bytes.NewReader(data)
	}
	req, err := http.NewRequest(method, s.base+path, reader)
	if err != nil {
		return answer{}, err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Accept", "application/json")
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	resp, err := s.http.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return answer{}, err
	}
	a := answer{code: resp.StatusCode, warnings: resp.Header.Values("Warning")}
	sort.Strings(a.warnings)
	if err := json.Unmarshal(data, &a.body); err != nil {
		a.body = map[string]any{"raw": string(data)}
	}
	return a, nil
}

func start(t *testing.T, dir, log, bin string, args ...string) {
	t.Helper()
	out, err := os.Create(filepath.Join(dir, log))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, bin, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = cmd.Wait()
		out.Close()
	})
}

// startBoth starts upstream's servers and ours on empty stores.
func startBoth(t *testing.T, upstream, ours string) (up, our *side) {
	t.Helper()
	dir := t.TempDir()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	sa := filepath.Join(dir, "sa.key")
	tokens := filepath.Join(dir, "tokens.csv")
	block := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
	for path, data := range map[string][]byte{sa: block, tokens: []byte(token + ",admin,1,system:masters\n")} {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ports := freePorts(t, 6)
	client, peer, upPort, ourPort := ports[0], ports[1], ports[2], ports[3]
	url := fmt.Sprintf("http://127.0.0.1:%d", client)
	peerURL := fmt.Sprintf("http://127.0.0.1:%d", peer)
	start(t, dir, "etcd.log", filepath.Join(upstream, "etcd"), "--data-dir="+filepath.Join(dir, "etcd"),
		"--listen-client-urls="+url, "--advertise-client-urls="+url, "--listen-peer-urls="+peerURL,
		"--initial-advertise-peer-urls="+peerURL, "--initial-cluster=default="+peerURL)
	args := func(port int, cert string) []string {
		return []string{
			fmt.Sprintf("--secure-port=%d", port), "--bind-address=127.0.0.1", "--advertise-address=192.0.2.1",
			"--service-account-issuer=https://kubernetes.default.svc", "--service-account-signing-key-file=" + sa,
			"--service-account-key-file=" + sa, "--token-auth-file=" + tokens, "--authorization-mode=Node,RBAC",
			"--enable-admission-plugins=NodeRestriction", "--allow-privileged=true", "--service-cluster-ip-range=10.96.0.0/16", "--cert-dir=" + filepath.Join(dir, cert),
		}
	}
	start(t, dir, "upstream.log", filepath.Join(upstream, "kube-apiserver"), append(args(upPort, "up"), "--etcd-servers="+url)...)
	client, peer = ports[4], ports[5]
	start(t, dir, "ours.log", ours, append(args(ourPort, "our"), "--etcd-data-dir="+filepath.Join(dir, "our-etcd"),
		fmt.Sprintf("--etcd-listen-client-url=http://127.0.0.1:%d", client), fmt.Sprintf("--etcd-listen-peer-url=http://127.0.0.1:%d", peer))...)
	insecure := &http.Client{Timeout: time.Minute, Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, MaxIdleConnsPerHost: 8}}
	up = &side{name: "upstream", base: fmt.Sprintf("https://127.0.0.1:%d", upPort), http: insecure}
	our = &side{name: "ours", base: fmt.Sprintf("https://127.0.0.1:%d", ourPort), http: insecure}
	for _, s := range []*side{up, our} {
		if !s.ready() {
			logs, _ := os.ReadFile(filepath.Join(dir, map[string]string{"upstream": "upstream.log", "ours": "ours.log"}[s.name]))
			t.Fatalf("%s is not ready: %s", s.name, tail(string(logs)))
		}
		for _, o := range prelude() {
			if a, err := s.do("POST", o.path, "application/json", o.body); err != nil || a.code > 299 && a.code != 409 {
				t.Fatalf("%s: %s: %v %v", s.name, o.path, a, err)
			}
		}
	}
	return up, our
}

func tail(s string) string { return s[max(0, len(s)-2000):] }

// ready waits until the server answers that it is.
func (s *side) ready() bool {
	for range 240 {
		if a, err := s.do("GET", "/readyz", "", nil); err == nil && a.code == 200 {
			return true
		}
		<-time.After(250 * time.Millisecond)
	}
	return false
}

var anyUID = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)

type post struct {
	path string
	body map[string]any
}

// prelude is what admission wants to see: a namespace with its service account.
func prelude() []post {
	out := []post{{"/api/v1/namespaces", object("v1", "Namespace", "diff")}}
	for _, ns := range []string{"diff", "default"} {
		out = append(out, post{"/api/v1/namespaces/" + ns + "/serviceaccounts", object("v1", "ServiceAccount", "default")})
	}
	return out
}

func object(apiVersion, kind, name string) map[string]any {
	return map[string]any{"apiVersion": apiVersion, "kind": kind, "metadata": map[string]any{"name": name}}
}

// ignored are the fields that no two servers agree on.
var ignored = []string{"uid", "creationTimestamp", "resourceVersion", "managedFields", "selfLink"}

func normal(a answer) map[string]any {
	m := a.body
	if meta, ok := m["metadata"].(map[string]any); ok {
		if meta["generateName"] != nil {
			meta["name"] = "generated"
		}
		for _, f := range ignored {
			delete(meta, f)
		}
	}
	if m["kind"] != "Status" || m["apiVersion"] != "v1" {
		scrub(m)
		return m
	}
	out := map[string]any{"code": m["code"], "reason": m["reason"], "message": anyUID.ReplaceAllString(fmt.Sprint(m["message"]), "uid")}
	if d, ok := m["details"].(map[string]any); ok {
		out["details"] = d
		if list, ok := d["causes"].([]any); ok {
			causes := make([]string, 0, len(list))
			for _, c := range list {
				c := c.(map[string]any)
				// What follows the first line shows Go values, ours and theirs.
				message, _, _ := strings.Cut(anyUID.ReplaceAllString(fmt.Sprint(c["message"]), "uid"), "\n")
				causes = append(causes, fmt.Sprintf("%v %v: %v", c["reason"], c["field"], message))
			}
			sort.Strings(causes)
			d["causes"] = causes
			if len(causes) > 1 || strings.Contains(fmt.Sprint(m["message"]), "\n") {
				delete(out, "message")
			}
		}
	}
	return out
}

// scrub hides allocated values and a job's UID.
//
// A UID in a message is hidden by anyUID.
func scrub(v any) {
	switch x := v.(type) {
	case map[string]any:
		for k, e := range x {
			switch k {
			case "controller-uid", "batch.kubernetes.io/controller-uid":
				x[k] = "uid"
			case "clusterIP", "nodePort", "healthCheckNodePort":
				if e != "None" && e != "" {
					x[k] = "allocated"
				}
			case "clusterIPs":
				x[k] = "allocated"
			case "lastTransitionTime", "lastPhaseTransitionTime", "deletionTimestamp":
				x[k] = "time"
			}
			if s, ok := x[k].(string); ok && strings.HasPrefix(s, "kube-api-access-") {
				x[k] = "kube-api-access"
			}
			scrub(x[k])
		}
	case []any:
		for _, e := range x {
			scrub(e)
		}
	}
}
