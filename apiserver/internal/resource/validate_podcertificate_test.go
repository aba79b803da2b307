package resource

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	certificatesv1 "k8s.io/api/certificates/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// stub is a key and its PKCS #10 request.
func stub(t *testing.T, key crypto.Signer) (crypto.Signer, []byte) {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	return key, der
}

func elliptically(t *testing.T, curve elliptic.Curve) (crypto.Signer, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return stub(t, key)
}

func podRequest(der []byte) *certificatesv1.PodCertificateRequest {
	r := &certificatesv1.PodCertificateRequest{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "req-1"},
		Spec: certificatesv1.PodCertificateRequestSpec{
			SignerName: "example.com/signer", PodName: "p", PodUID: "pu", ServiceAccountName: "sa", ServiceAccountUID: "su", NodeName: "n", NodeUID: "nu",
			StubPKCS10Request: der,
		},
	}
	podCertificateRequest().Default(r)
	return r
}

func texts(list field.ErrorList) []string {
	var out []string
	for _, e := range list {
		out = append(out, e.Error())
	}
	return out
}

func TestValidatePodCertificateRequest(t *testing.T) {
	_, good := elliptically(t, elliptic.P256())
	_, p224 := elliptically(t, elliptic.P224())
	weak, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	_, small := stub(t, weak)
	_, young, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, edwards := stub(t, young)
	forged := bytes.Clone(good)
	forged[len(forged)-1] ^= 1
	for name, tc := range map[string]struct {
		change func(*certificatesv1.PodCertificateRequestSpec)
		want   []string
	}{
		"valid":   {func(*certificatesv1.PodCertificateRequestSpec) {}, nil},
		"ed25519": {func(s *certificatesv1.PodCertificateRequestSpec) { s.StubPKCS10Request = edwards }, nil},
		"no proof": {
			func(s *certificatesv1.PodCertificateRequestSpec) { s.StubPKCS10Request = nil },
			[]string{"spec: Invalid value: exactly one of (stubPKCS10Request) or (pkixPublicKey, proofOfPossession) must be set"},
		},
		"not a request": {
			func(s *certificatesv1.PodCertificateRequestSpec) { s.StubPKCS10Request = []byte("x") },
			[]string{"spec.stubPKCS10Request: Invalid value: must be a valid PKCS#10 CSR"},
		},
		"signed by another": {
			func(s *certificatesv1.PodCertificateRequestSpec) { s.StubPKCS10Request = forged },
			[]string{"spec.stubPKCS10Request: Invalid value: invalid signature"},
		},
		"curve": {
			func(s *certificatesv1.PodCertificateRequestSpec) { s.StubPKCS10Request = p224 },
			[]string{`spec.stubPKCS10Request: Invalid value: "curve P-224": elliptic public keys must use curve P256, P384, or P521`},
		},
		"small key": {
			func(s *certificatesv1.PodCertificateRequestSpec) { s.StubPKCS10Request = small },
			[]string{`spec.stubPKCS10Request: Invalid value: "2048-bit modulus": RSA keys must have modulus size 3072 or 4096`},
		},
		"too long": {
			func(s *certificatesv1.PodCertificateRequestSpec) { s.StubPKCS10Request = make([]byte, 10*1024+1) },
			[]string{"spec.stubPKCS10Request: Too long: may not be more than 10240 bytes"},
		},
		"signer": {func(s *certificatesv1.PodCertificateRequestSpec) { s.SignerName = "x" }, []string{
			`spec.signerName: Invalid value: "x": must be a fully qualified domain and path of the form 'example.com/signer-name'`,
		}},
		"no UIDs": {func(s *certificatesv1.PodCertificateRequestSpec) {
			s.PodUID, s.ServiceAccountUID, s.NodeUID = "", "", ""
		}, []string{
			`spec.podUID: Invalid value: "": must not be empty`, `spec.serviceAccountUID: Invalid value: "": must not be empty`, `spec.nodeUID: Invalid value: "": must not be empty`,
		}},
		"long UID": {
			func(s *certificatesv1.PodCertificateRequestSpec) { s.NodeUID = types.UID(strings.Repeat("x", 129)) },
			[]string{"spec.nodeUID: Too long: may not be more than 128 bytes"},
		},
		"annotation without a domain": {func(s *certificatesv1.PodCertificateRequestSpec) {
			s.UnverifiedUserAnnotations = map[string]string{"key": "v"}
		}, []string{`spec.unverifiedUserAnnotations: Invalid value: "key": must be a domain-prefixed key (such as "acme.io/foo")`}},
		"too short": {func(s *certificatesv1.PodCertificateRequestSpec) { s.MaxExpirationSeconds = new(int32(3599)) }, []string{
			"spec.maxExpirationSeconds: Invalid value: 3599: must be in the range [3600, 7862400]",
		}},
		"a day is the cluster's own signers' longest": {func(s *certificatesv1.PodCertificateRequestSpec) {
			s.SignerName, s.MaxExpirationSeconds = "kubernetes.io/x", new(int32(86401))
		}, []string{"spec.maxExpirationSeconds: Invalid value: 86401: must be in the range [3600, 86400]"}},
	} {
		t.Run(name, func(t *testing.T) {
			r := podRequest(good)
			tc.change(&r.Spec)
			if d := cmp.Diff(tc.want, texts(validatePodCertificateRequest(r))); d != "" {
				t.Error(d)
			}
		})
	}
	r := podRequest(good)
	r.Spec.PodName = "q"
	if got := validatePodCertificateRequestUpdate(r, podRequest(good)); len(got) != 1 || got[0].Field != "spec" {
		t.Errorf("changed spec: %v", got)
	}
}

// issue is a chain for the key that lives from begin for a time.
func issue(t *testing.T, key crypto.Signer, begin time.Time, life time.Duration, names ...string) string {
	t.Helper()
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: begin, NotAfter: begin.Add(life), DNSNames: names}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

func TestValidatePodCertificateRequestStatus(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	key, der := elliptically(t, elliptic.P256())
	other, _ := elliptically(t, elliptic.P256())
	at := func(d time.Duration) *metav1.Time { return new(metav1.NewTime(now.Add(d))) }
	end := func(kind string) []metav1.Condition {
		return []metav1.Condition{{Type: kind, Status: metav1.ConditionTrue, Reason: "Because", LastTransitionTime: metav1.NewTime(now)}}
	}
	const day = 24 * time.Hour
	issued := certificatesv1.PodCertificateRequestStatus{
		Conditions: end("Issued"), CertificateChain: issue(t, key, now, day), NotBefore: at(0), NotAfter: at(day), BeginRefreshAt: at(day / 2),
	}
	set := func(f func(*certificatesv1.PodCertificateRequestStatus)) certificatesv1.PodCertificateRequestStatus {
		s := *issued.DeepCopy()
		f(&s)
		return s
	}
	lives := func(begin, life time.Duration) certificatesv1.PodCertificateRequestStatus {
		return set(func(s *certificatesv1.PodCertificateRequestStatus) {
			s.CertificateChain, s.NotBefore, s.NotAfter, s.BeginRefreshAt = issue(t, key, now.Add(begin), life), at(begin), at(begin+life), at(begin+life/2)
		})
	}
	type status = certificatesv1.PodCertificateRequestStatus
	for name, tc := range map[string]struct {
		old, new status
		want     string // of the first error
	}{
		"issued":           {new: issued},
		"denied":           {new: status{Conditions: end("Denied")}},
		"failed":           {new: status{Conditions: end("Failed")}},
		"nothing":          {},
		"only a chain":     {new: status{CertificateChain: "x"}, want: `status: Invalid value: status is immutable unless transitioning to "Issued", "Denied", or "Failed"`},
		"denied and given": {new: set(func(s *status) { s.Conditions = end("Denied") }), want: "status: Invalid value: non-condition status fields must be empty when denying or failing the PodCertificateRequest"},
		"issued twice":     {old: issued, new: status{Conditions: end("Denied")}, want: "status: Invalid value: immutable after PodCertificateRequest is issued, denied, or failed"},
		"left as it was":   {old: issued, new: issued},
		"unknown condition": {
			new:  status{Conditions: end("SuggestedKeyType")},
			want: `status.conditions.[0].type: Unsupported value: "SuggestedKeyType": supported values: "Issued", "Denied", "Failed"`,
		},
		"two conditions": {
			new:  status{Conditions: append(end("Denied"), end("Failed")...)},
			want: `status.conditions.[1].type: Invalid value: "Failed": There may be at most one condition with type "Issued", "Denied", or "Failed"`,
		},
		"a condition that is not": {
			new:  status{Conditions: []metav1.Condition{{Type: "Denied", Status: metav1.ConditionFalse, Reason: "R", LastTransitionTime: metav1.NewTime(now)}}},
			want: `status.conditions.[0].status: Unsupported value: "False": supported values: "True"`,
		},
		"no chain":      {new: set(func(s *status) { s.CertificateChain = "" }), want: "status.certificateChain: Invalid value: \"\": issued certificate chain must contain at least one certificate"},
		"another's key": {new: set(func(s *status) { s.CertificateChain = issue(t, other, now, day) }), want: "leaf certificate was not issued to the requested public key"},
		"a key in the chain": {new: set(func(s *status) {
			s.CertificateChain += "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"
		}), want: "issued certificate chain must consist entirely of CERTFICATE PEM blocks"},
		"a name with a dot": {new: set(func(s *status) { s.CertificateChain = issue(t, key, now, day, "a.example.") }), want: `"a.example.": leaf certificate's DNSName should not start or end with '.'`},
		"no refresh":        {new: set(func(s *status) { s.BeginRefreshAt = nil }), want: "status.beginRefreshAt: Required value: must be present and in the range [notbefore+10min, notafter-10min]"},
		"another begin":     {new: set(func(s *status) { s.NotBefore = at(time.Second) }), want: "must be set to the NotBefore time encoded in the leaf certificate"},
		"another end":       {new: set(func(s *status) { s.NotAfter = at(time.Second) }), want: "must be set to the NotAfter time encoded in the leaf certificate"},
		"begun long ago":    {new: lives(-5*time.Minute, day), want: "must be set to within 5 minutes of kube-apiserver's current time"},
		"begins later":      {new: lives(5*time.Minute, day), want: "must be set to within 5 minutes of kube-apiserver's current time"},
		"begun just now":    {new: lives(-5*time.Minute+time.Second, day)},
		"short life":        {new: lives(0, time.Hour-time.Second), want: "leaf certificate lifetime must be >= 1 hour"},
		"long life":         {new: lives(0, day+time.Second), want: "leaf certificate lifetime must be <= spec.maxExpirationSeconds (86400)"},
		"early refresh":     {new: set(func(s *status) { s.BeginRefreshAt = at(10*time.Minute - time.Second) }), want: "must be at least 10 minutes after status.notBefore"},
		"late refresh":      {new: set(func(s *status) { s.BeginRefreshAt = at(day - 10*time.Minute + time.Second) }), want: "must be at least 10 minutes before status.notAfter"},
	} {
		t.Run(name, func(t *testing.T) {
			r, old := podRequest(der), podRequest(der)
			r.Status, old.Status = tc.new, tc.old
			got := strings.Join(texts(validatePodCertificateRequestStatus(r, old, now)), "\n")
			if (tc.want == "") != (got == "") || !strings.Contains(got, tc.want) {
				t.Errorf("got  %s\nwant %s", got, tc.want)
			}
		})
	}
}
