package serving

import (
	"crypto/x509"
	"net"
	"os"
	"path/filepath"
	"testing"
)

// TestSelfSigned makes a certificate that its own file, as a CA bundle, vouches for, and finds it again.
func TestSelfSigned(t *testing.T) {
	dir := t.TempDir()
	made, err := selfSigned("kube-test", dir, net.IPv4(192, 0, 2, 1))
	if err != nil {
		t.Fatal(err)
	}
	bundle, err := os.ReadFile(filepath.Join(dir, "kube-test.crt"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(bundle)
	for _, name := range []string{"localhost", "127.0.0.1", "::1", "192.0.2.1"} {
		if _, err := made.Leaf.Verify(x509.VerifyOptions{DNSName: name, Roots: roots}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	again, err := selfSigned("kube-test", dir, nil)
	if err != nil || !again.Leaf.Equal(made.Leaf) {
		t.Errorf("another certificate the second time: %v", err)
	}
	if _, err := selfSigned("kube-test", "", nil); err != nil {
		t.Error(err)
	}
}
