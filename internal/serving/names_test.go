package serving

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	certutil "k8s.io/client-go/util/cert"
)

func TestNames(t *testing.T) {
	dir := t.TempDir()
	pair := func(name string, alternatives ...string) string {
		cert, key, err := certutil.GenerateSelfSignedCertKey(name, nil, alternatives)
		if err != nil {
			t.Fatal(err)
		}
		files := [2]string{filepath.Join(dir, name+".crt"), filepath.Join(dir, name+".key")}
		for i, data := range [][]byte{cert, key} {
			if err := os.WriteFile(files[i], data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return files[0] + "," + files[1]
	}
	n, err := NewNames([]string{pair("a.example", "*.a.example"), pair("b.example") + ":b.example,*.a.example,10.0.0.1"})
	if err != nil {
		t.Fatal(err)
	}
	server, client := net.Pipe()
	defer func() { _ = server.Close(); _ = client.Close() }()
	for asked, want := range map[string]string{
		"a.example": "a.example", "B.EXAMPLE": "b.example", "x.a.example": "b.example", "x.y.a.example": "", "c.example": "", "10.0.0.1": "b.example", "": "",
	} {
		got := ""
		if cert := n.Get(&tls.ClientHelloInfo{ServerName: asked, Conn: server}); cert != nil {
			leaf, err := x509.ParseCertificate(cert.Certificate[0])
			if err != nil {
				t.Fatal(err)
			}
			got, _, _ = strings.Cut(leaf.Subject.CommonName, "@")
		}
		if got != want {
			t.Errorf("%q is served by %q, want %q", asked, got, want)
		}
	}
	for _, text := range []string{"a", "a,b,c", ",b", filepath.Join(dir, "none") + "," + filepath.Join(dir, "none")} {
		if _, err := NewNames([]string{text}); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
}

func TestDebugSocket(t *testing.T) {
	dir, err := os.MkdirTemp("", "s") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	path := filepath.Join(dir, "s")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var run sync.WaitGroup
	run.Go(func() {
		if err := DebugSocket(ctx, path); err != nil {
			t.Error(err)
		}
	})
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}}}
	for end := time.Now().Add(10 * time.Second); ; {
		resp, err := client.Get("http://local/debug/pprof/cmdline")
		if err == nil {
			data, _ := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if resp.StatusCode != http.StatusOK || len(data) == 0 {
				t.Errorf("%d %q", resp.StatusCode, data)
			}
			break
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	client.CloseIdleConnections()
	cancel()
	run.Wait()
}
