package resource

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"

	certificatesv1 "k8s.io/api/certificates/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func anchor(t *testing.T, ca bool) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), IsCA: ca, BasicConstraintsValid: ca}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

func TestTrustBundles(t *testing.T) {
	good, leaf := anchor(t, true), anchor(t, false)
	for _, tc := range []struct{ name, signer, bundle, want string }{
		{"plain", "", good, ""},
		{"example.com:signer:one", "example.com/signer", "text\n" + good, ""},
		{"a:b", "", good, `must not have ":" in its name`},
		{"one", "example.com/signer", good, "must be named with prefix example.com:signer:"},
		{"plain", "", "", "at least one trust anchor must be provided"},
		{"plain", "", leaf, "entry 0 does not have the CA bit set"},
		{"plain", "", good + good, "duplicate trust anchor (indices [0 1])"},
		{"plain", "", good + "-----BEGIN X-----\n-----END X-----\n", "entry 1 has bad block type: X"},
		{"plain", "", strings.Repeat("x", maxTrustBundle+1), "may not be more than 1048576"},
	} {
		b := &certificatesv1.ClusterTrustBundle{ObjectMeta: metav1.ObjectMeta{Name: tc.name}, Spec: certificatesv1.ClusterTrustBundleSpec{SignerName: tc.signer, TrustBundle: tc.bundle}}
		got := validateTrustBundle(b)
		if tc.want == "" && len(got) > 0 || tc.want != "" && (len(got) != 1 || !strings.Contains(got[0].Error(), tc.want)) {
			t.Errorf("%s of %q: %v, want %q", tc.name, tc.signer, got, tc.want)
		}
	}
	old := &certificatesv1.ClusterTrustBundle{ObjectMeta: metav1.ObjectMeta{Name: "plain"}, Spec: certificatesv1.ClusterTrustBundleSpec{TrustBundle: leaf}}
	if got := validateTrustBundleUpdate(old.DeepCopy(), old); len(got) > 0 {
		t.Errorf("a bundle that does not change: %v", got)
	}
}
