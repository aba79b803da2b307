package admission

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"testing"

	certificatesv1 "k8s.io/api/certificates/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"flagship/apiserver/internal/authn"
	"flagship/apiserver/internal/authz"
)

// signers allows one user one verb on the signers of a domain.
type signers struct{ user, verb, name string }

func (s signers) Authorize(_ context.Context, a authz.Attributes) (authz.Decision, string, error) {
	if a.User.Name == s.user && a.Verb == s.verb && a.Name == s.name && a.Resource == "signers" {
		return authz.Allow, "", nil
	}
	return authz.NoOpinion, "", nil
}

func request(t *testing.T, organization string) []byte {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{Organization: []string{organization}}}, key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
}

func TestCertificates(t *testing.T) {
	csr := func(organization string) *certificatesv1.CertificateSigningRequest {
		return &certificatesv1.CertificateSigningRequest{
			ObjectMeta: metav1.ObjectMeta{Name: "r"},
			Spec:       certificatesv1.CertificateSigningRequestSpec{SignerName: certificatesv1.KubeAPIServerClientSignerName, Request: request(t, organization)},
		}
	}
	chain, err := New(Config{}, Deps{Authorizer: signers{"boss", "approve", "kubernetes.io/*"}})
	if err != nil {
		t.Fatal(err)
	}
	only := func(name string) Chain {
		for _, p := range chain.Plugins {
			if p.Name() == name {
				return Chain{Plugins: []Plugin{p}}
			}
		}
		t.Fatal(name)
		return Chain{}
	}
	ask := func(op Operation, user, subresource string) *Attributes {
		a := create(csr("dev"), "certificates.k8s.io", "certificatesigningrequests", "CertificateSigningRequest")
		a.Operation, a.Subresource, a.User = op, subresource, &authn.Identity{Name: user}
		if op == Update {
			a.OldObject = csr("dev")
		}
		return a
	}
	wantError(t, "approve", run(t, only("CertificateApproval"), ask(Update, "boss", "approval")), "")
	wantError(t, "may not approve", run(t, only("CertificateApproval"), ask(Update, "jane", "approval")),
		`certificatesigningrequests.certificates.k8s.io "r" is forbidden: user not permitted to approve requests with signerName "kubernetes.io/kube-apiserver-client"`)
	status := ask(Update, "jane", "status")
	wantError(t, "nothing signed", run(t, only("CertificateSigning"), status), "")
	status.Object.(*certificatesv1.CertificateSigningRequest).Status.Certificate = []byte("x")
	wantError(t, "may not sign", run(t, only("CertificateSigning"), status),
		`certificatesigningrequests.certificates.k8s.io "r" is forbidden: user not permitted to sign requests with signerName "kubernetes.io/kube-apiserver-client"`)
	wantError(t, "subject", run(t, only("CertificateSubjectRestriction"), ask(Create, "jane", "")), "")
	masters := ask(Create, "jane", "")
	masters.Object = csr("system:masters")
	wantError(t, "masters", run(t, only("CertificateSubjectRestriction"), masters),
		`certificatesigningrequests.certificates.k8s.io "r" is forbidden: use of kubernetes.io/kube-apiserver-client signer with system:masters group is not allowed`)
	bundle := create(&certificatesv1.ClusterTrustBundle{
		ObjectMeta: metav1.ObjectMeta{Name: "b"}, Spec: certificatesv1.ClusterTrustBundleSpec{SignerName: "a.b/c"},
	}, "certificates.k8s.io", "clustertrustbundles", "ClusterTrustBundle")
	wantError(t, "attest", run(t, only("ClusterTrustBundleAttest"), bundle),
		`clustertrustbundles.certificates.k8s.io "b" is forbidden: user not permitted to attest for signerName "a.b/c"`)
}
