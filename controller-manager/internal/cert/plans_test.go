package cert

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"maps"
	"net"
	"slices"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func request(cn string, dns ...string) *x509.CertificateRequest {
	return &x509.CertificateRequest{Subject: pkix.Name{CommonName: cn, Organization: []string{"system:nodes"}}, DNSNames: dns}
}

func TestCheck(t *testing.T) {
	client := []certificatesv1.KeyUsage{"digital signature", "client auth"}
	serving := []certificatesv1.KeyUsage{"digital signature", "key encipherment", "server auth"}
	withIP := request("system:node:n")
	withIP.IPAddresses = []net.IP{net.IPv4(1, 2, 3, 4)}
	for name, tc := range map[string]struct {
		signer string
		cr     *x509.CertificateRequest
		usages []certificatesv1.KeyUsage
		want   string
	}{
		"kubelet client":          {certificatesv1.KubeAPIServerClientKubeletSignerName, request("system:node:n"), client, ""},
		"client with a DNS name":  {certificatesv1.KubeAPIServerClientKubeletSignerName, request("system:node:n", "x"), client, "DNS subjectAltNames are not allowed"},
		"client of somebody else": {certificatesv1.KubeAPIServerClientKubeletSignerName, request("admin"), client, "subject common name does not begin with system:node:"},
		"kubelet serving":         {certificatesv1.KubeletServingSignerName, withIP, serving, ""},
		"serving without a name":  {certificatesv1.KubeletServingSignerName, request("system:node:n"), serving, "DNS or IP subjectAltName is required"},
		"any client":              {certificatesv1.KubeAPIServerClientSignerName, request("me"), client, ""},
		"a server is no client":   {certificatesv1.KubeAPIServerClientSignerName, request("me"), serving, "missing required usage for client certificate: client auth"},
		"unknown":                 {"x/y", request("me"), client, `unrecognized signerName: "x/y"`},
	} {
		t.Run(name, func(t *testing.T) {
			got := ""
			if err := check(tc.signer, tc.cr, tc.usages); err != nil {
				got = err.Error()
			}
			if got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func TestRecognize(t *testing.T) {
	csr := &certificatesv1.CertificateSigningRequest{Spec: certificatesv1.CertificateSigningRequestSpec{
		SignerName: certificatesv1.KubeAPIServerClientKubeletSignerName, Usages: []certificatesv1.KeyUsage{"digital signature", "client auth"}, Username: "system:node:n",
	}}
	if got := recognize(csr, request("system:node:n")); len(got) != 2 || got[0].subresource != "selfnodeclient" {
		t.Errorf("renewal: %v", got)
	}
	csr.Spec.Username = "system:bootstrap:abcdef"
	if got := recognize(csr, request("system:node:n")); len(got) != 1 || got[0].subresource != "nodeclient" {
		t.Errorf("bootstrap: %v", got)
	}
}

func TestValidity(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	year := 365 * 24 * time.Hour
	short, tiny := int32(3600), int32(1)
	for name, tc := range map[string]struct {
		asked *int32
		caEnd time.Time
		want  time.Duration
	}{
		"default":      {nil, now.Add(10 * year), year - backdate},
		"an hour":      {&short, now.Add(10 * year), time.Hour},
		"too short":    {&tiny, now.Add(10 * year), leastAsked},
		"the CA's end": {nil, now.Add(time.Hour), time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			from, to, err := validity(tc.asked, year, tc.caEnd, now)
			if err != nil || !from.Equal(now.Add(-backdate)) || to.Sub(now) != tc.want {
				t.Errorf("from %v to %v, %v", from, to.Sub(now), err)
			}
		})
	}
	if _, _, err := validity(nil, year, now.Add(-time.Second), now); err == nil {
		t.Error("signed with a CA that is over")
	}
}

func TestExpired(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	mk := func(age time.Duration, c certificatesv1.RequestConditionType, certificate string) *certificatesv1.CertificateSigningRequest {
		at := metav1.NewTime(now.Add(-age))
		csr := &certificatesv1.CertificateSigningRequest{ObjectMeta: metav1.ObjectMeta{CreationTimestamp: at}, Status: certificatesv1.CertificateSigningRequestStatus{Certificate: []byte(certificate)}}
		if c != "" {
			csr.Status.Conditions = []certificatesv1.CertificateSigningRequestCondition{{Type: c, LastUpdateTime: at}}
		}
		return csr
	}
	for name, tc := range map[string]struct {
		csr  *certificatesv1.CertificateSigningRequest
		want bool
	}{
		"pending a day":   {mk(25*time.Hour, "", ""), true},
		"pending an hour": {mk(2*time.Hour, "", ""), false},
		"denied":          {mk(2*time.Hour, certificatesv1.CertificateDenied, ""), true},
		"issued":          {mk(2*time.Hour, certificatesv1.CertificateApproved, "x"), true},
		"approved only":   {mk(2*time.Hour, certificatesv1.CertificateApproved, ""), false},
	} {
		if got := expired(tc.csr, now) != ""; got != tc.want {
			t.Errorf("%s: got %v", name, got)
		}
	}
}

func TestSigned(t *testing.T) {
	data := map[string]string{"kubeconfig": "x", "jws-kubeconfig-gone00": "old"}
	got := signed(data, []token{{"abcdef", "0123456789abcdef"}})
	if keys := slices.Sorted(maps.Keys(got)); !slices.Equal(keys, []string{"jws-kubeconfig-abcdef", "kubeconfig"}) {
		t.Errorf("keys %v", keys)
	}
	// The token's header and signature as made by the reference implementation of RFC 7515 for this payload.
	const header = "eyJhbGciOiJIUzI1NiIsImtpZCI6ImFiY2RlZiJ9.."
	if sig := got["jws-kubeconfig-abcdef"]; len(sig) != len(header)+43 || sig[:len(header)] != header {
		t.Errorf("signature %q", sig)
	}
	if !maps.Equal(signed(got, []token{{"abcdef", "0123456789abcdef"}}), got) {
		t.Error("signing twice changes the data")
	}
}

func TestSigningToken(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	mk := func(expiration string) *corev1.Secret {
		return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "bootstrap-token-abcdef"}, Data: map[string][]byte{
			"token-id": []byte("abcdef"), "token-secret": []byte("0123456789abcdef"), "usage-bootstrap-signing": []byte("true"), "expiration": []byte(expiration),
		}}
	}
	for expiration, want := range map[string]bool{
		"": true, now.Add(time.Hour).UTC().Format(time.RFC3339): true, now.Add(-time.Hour).UTC().Format(time.RFC3339): false, "soon": false,
	} {
		if _, ok := signingToken(mk(expiration), now); ok != want {
			t.Errorf("expiration %q: got %v", expiration, ok)
		}
	}
}
