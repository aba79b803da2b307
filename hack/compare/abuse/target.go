package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"flagship/hack/compare/lab"
)

// Tokens of those who attack, beside the lab's administrator: jane may do everything, but as nobody whom the limits exempt; mallory may
// read config maps in one namespace; kubelet is the node whose lease is renewed meanwhile.
const (
	janeToken    = "abuse-jane"
	malloryToken = "abuse-mallory"
	kubeletToken = "abuse-kubelet"
	nobody       = "-"
)

// mostData is what a server may allocate before it dies in the machine's stead.
const mostData = 5 << 30

// own are the keys that a server writes by itself, and the lease that the prober renews.
var own = []string{"/registry/leases/", "/registry/peerserverleases/", "/registry/masterleases/", "/registry/events/", "/registry/ranges/", "/registry/apiregistration.k8s.io/", "/registry/flowschemas/", "/registry/prioritylevelconfigurations/"}

// target is one server under attack.
type target struct {
	*lab.Server
	lab  *lab.Lab
	bin  string
	args []string
	etcd string
	pid  int
	// http speaks HTTP/2, and plain HTTP/1.1.
	http, plain *http.Client
}

// newTarget starts a server on an etcd of its own.
func newTarget(ctx context.Context, l *lab.Lab, name, bin string) (*target, error) {
	_, url, err := l.Store(ctx, name)
	if err != nil {
		return nil, err
	}
	tokens := lab.AdminToken + ",admin,1,system:masters\n" + janeToken + ",jane,2\n" + malloryToken + ",mallory,3\n" + kubeletToken + ",system:node:abuse,4,system:nodes\n"
	if err := os.WriteFile(l.Path("abuse.csv"), []byte(tokens), 0o600); err != nil {
		return nil, err
	}
	t := &target{lab: l, bin: bin, etcd: url, args: []string{"--etcd-servers=" + url, "--token-auth-file=" + l.Path("abuse.csv"), fmt.Sprintf("--request-timeout=%.0fs", requestTimeout.Seconds())}}
	// The certificate was made a moment ago for this run alone.
	insecure := &tls.Config{InsecureSkipVerify: true}
	t.http = &http.Client{Transport: &http.Transport{TLSClientConfig: insecure, ForceAttemptHTTP2: true}}
	t.plain = &http.Client{Transport: &http.Transport{TLSClientConfig: insecure.Clone(), TLSNextProto: map[string]func(string, *tls.Conn) http.RoundTripper{}}}
	return t, t.start(ctx, name)
}

func (t *target) start(ctx context.Context, name string) error {
	s, err := t.lab.Serve(ctx, name, t.bin, t.args...)
	if err != nil {
		return err
	}
	t.Server = s
	if t.pid, err = childNamed(s.Base); err != nil {
		return err
	}
	return unix.Prlimit(t.pid, unix.RLIMIT_DATA, &unix.Rlimit{Cur: mostData, Max: mostData}, nil)
}

// revive starts the server again that an attack ended.
func (t *target) revive(ctx context.Context) error {
	fmt.Printf("%s died; the end of its log:\n%s\n", t.Name, t.Proc.Tail())
	t.Proc.Stop()
	return t.start(ctx, t.Name)
}

func (t *target) close() { t.Proc.Stop() }

// childNamed is the process that this one started and that serves a base URL.
func childNamed(base string) (int, error) {
	port := "--secure-port=" + base[strings.LastIndexByte(base, ':')+1:]
	dirs, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return 0, err
	}
	for _, file := range dirs {
		line, err := os.ReadFile(file)
		if err == nil && bytes.Contains(line, []byte(port+"\x00")) {
			return strconv.Atoi(strings.Split(file, "/")[2])
		}
	}
	return 0, fmt.Errorf("no process has %s", port)
}

// mark resets the server's highest memory, and says what it uses now.
func (t *target) mark() (lab.Usage, error) {
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", t.pid), []byte("5"), 0); err != nil {
		return lab.Usage{}, err
	}
	return t.Proc.Usage()
}

// since is the processor time since the mark, and how far the memory rose; false where the server is dead.
func (t *target) since(mark lab.Usage) (lab.Usage, bool) {
	now, err := t.Proc.Usage()
	status, serr := os.ReadFile(fmt.Sprintf("/proc/%d/status", t.pid))
	_, rest, ok := strings.Cut(string(status), "VmHWM:")
	if err != nil || serr != nil || !ok {
		return lab.Usage{}, false
	}
	line, _, _ := strings.Cut(rest, "\n")
	kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(line), " kB"), 10, 64)
	return lab.Usage{CPU: now.CPU - mark.CPU, RSS: max(0, kib<<10-mark.RSS)}, err == nil
}

// keys are the keys in etcd, each with the revision and length of its value.
func (t *target) keys(ctx context.Context) (map[string]string, error) {
	enc := base64.StdEncoding.EncodeToString
	body, err := json.Marshal(map[string]any{"key": enc([]byte("/")), "range_end": enc([]byte("0")), "keys_only": true})
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, t.etcd+"/v3/kv/range", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	var got struct {
		Kvs []struct {
			Key         []byte `json:"key"`
			ModRevision string `json:"mod_revision"`
		} `json:"kvs"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&got); err != nil {
		return nil, fmt.Errorf("keys of etcd: %w", err)
	}
	if len(got.Kvs) == 0 {
		return nil, errors.New("etcd has no keys")
	}
	out := map[string]string{}
	for _, kv := range got.Kvs {
		out[string(kv.Key)] = kv.ModRevision
	}
	return out, nil
}

// request is one request.
type request struct {
	method, path string
	// mime is the body's type, application/json where it is empty and there is a body.
	mime, accept string
	// token is jane's where it is empty.
	token  string
	header http.Header
	body   []byte
	// stream is the body instead, of a length that is not told.
	stream func() io.Reader
	plain  bool
	// warnings, where it is not nil, gets their number.
	warnings *int
}

// do sends a request and returns the code, and the beginning of the answer.
func (t *target) do(ctx context.Context, r request) (string, []byte, error) {
	var body io.Reader = bytes.NewReader(r.body)
	if r.stream != nil {
		body = r.stream()
	}
	req, err := http.NewRequestWithContext(ctx, r.method, t.Base+r.path, body)
	if err != nil {
		return "", nil, err
	}
	for k, v := range r.header {
		req.Header[k] = v
	}
	if r.token != nobody && req.Header.Get("Authorization") == "" {
		token := r.token
		if token == "" {
			token = janeToken
		}
		req.Header.Set("Authorization", "Bearer "+token)
	}
	if r.mime == "" {
		r.mime = "application/json"
	}
	if r.body != nil || r.stream != nil {
		req.Header.Set("Content-Type", r.mime)
	}
	if r.accept != "" {
		req.Header.Set("Accept", r.accept)
	}
	client := t.http
	if r.plain {
		client = t.plain
	}
	resp, err := client.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return "", nil, ctx.Err()
		}
		return closed, []byte(err.Error()), nil
	}
	defer func() { _ = resp.Body.Close() }()
	if r.warnings != nil {
		*r.warnings = len(resp.Header.Values("Warning"))
	}
	const most = 32 << 20
	data, err := io.ReadAll(io.LimitReader(resp.Body, most))
	if err != nil {
		return closed, []byte(err.Error()), nil
	}
	return strconv.Itoa(resp.StatusCode), data, nil
}

// must sends a request of the administrator that has to succeed.
func (t *target) must(ctx context.Context, method, path, body string) ([]byte, error) {
	r := request{method: method, path: path, token: lab.AdminToken}
	if body != "" {
		r.body = []byte(body)
	}
	if method == http.MethodPatch {
		r.mime = "application/merge-patch+json"
	}
	for wait := 0; ; wait++ {
		code, data, err := t.do(ctx, r)
		if err != nil || code < "300" && code != closed {
			return data, err
		}
		// A definition is served a moment after it is stored.
		if code != "404" || wait > 100 {
			return nil, fmt.Errorf("%s %s: %s %.300s", method, path, code, data)
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}
