package admission

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"slices"
	"strings"

	certificatesv1 "k8s.io/api/certificates/v1"
	certificatesv1beta1 "k8s.io/api/certificates/v1beta1"
	"k8s.io/apimachinery/pkg/api/equality"

	"flagship/apiserver/internal/authn"
	"flagship/apiserver/internal/authz"
)

// MayUseSigner says whether the user has the verb for the signer, by name or by its domain.
func MayUseSigner(ctx context.Context, z authz.Authorizer, user *authn.Identity, verb, signer string) bool {
	domain, _, _ := strings.Cut(signer, "/")
	for _, name := range []string{signer, domain + "/*"} {
		d, _, _ := z.Authorize(ctx, authz.Attributes{
			User: user, Verb: verb, ResourceRequest: true, APIGroup: "certificates.k8s.io", APIVersion: "*", Resource: "signers", Name: name,
		})
		if d == authz.Allow {
			return true
		}
	}
	return false
}

func parseCSR(data []byte) (*x509.CertificateRequest, error) {
	block, _ := pem.Decode(data)
	if block == nil || block.Type != "CERTIFICATE REQUEST" {
		return nil, errors.New("PEM block type must be CERTIFICATE REQUEST")
	}
	return x509.ParseCertificateRequest(block.Bytes)
}

// CertificateApproval lets only those approve a request who may approve for its signer.
type CertificateApproval struct {
	operations
	authz authz.Authorizer
}

// Validate implements Validator. The old object counts: the update must not choose another signer.
func (p *CertificateApproval) Validate(ctx context.Context, a *Attributes) error {
	if !a.Is("certificates.k8s.io", "certificatesigningrequests", "approval") {
		return nil
	}
	csr, ok := a.OldObject.(*certificatesv1.CertificateSigningRequest)
	if !ok {
		return forbid(a, "expected type CertificateSigningRequest, got: %T", a.OldObject)
	}
	if !MayUseSigner(ctx, p.authz, a.User, "approve", csr.Spec.SignerName) {
		return forbid(a, "user not permitted to approve requests with signerName %q", csr.Spec.SignerName)
	}
	return nil
}

// CertificateSigning lets only those sign a request who may sign for its signer.
type CertificateSigning struct {
	operations
	authz authz.Authorizer
}

// Validate implements Validator.
func (p *CertificateSigning) Validate(ctx context.Context, a *Attributes) error {
	if !a.Is("certificates.k8s.io", "certificatesigningrequests", "status") {
		return nil
	}
	old, ok := a.OldObject.(*certificatesv1.CertificateSigningRequest)
	if !ok {
		return forbid(a, "expected type CertificateSigningRequest, got: %T", a.OldObject)
	}
	csr, ok := a.Object.(*certificatesv1.CertificateSigningRequest)
	if !ok {
		return forbid(a, "expected type CertificateSigningRequest, got: %T", a.Object)
	}
	if bytes.Equal(old.Status.Certificate, csr.Status.Certificate) && equality.Semantic.DeepEqual(old.Status.Conditions, csr.Status.Conditions) {
		return nil
	}
	if !MayUseSigner(ctx, p.authz, a.User, "sign", old.Spec.SignerName) {
		return forbid(a, "user not permitted to sign requests with signerName %q", old.Spec.SignerName)
	}
	return nil
}

// CertificateSubject refuses client certificates for the superusers' group.
type CertificateSubject struct{ operations }

// Validate implements Validator.
func (p *CertificateSubject) Validate(_ context.Context, a *Attributes) error {
	if !a.Is("certificates.k8s.io", "certificatesigningrequests", "") {
		return nil
	}
	csr, ok := a.Object.(*certificatesv1.CertificateSigningRequest)
	if !ok {
		return forbid(a, "expected type CertificateSigningRequest, got: %T", a.Object)
	}
	if csr.Spec.SignerName != certificatesv1.KubeAPIServerClientSignerName {
		return nil
	}
	req, err := parseCSR(csr.Spec.Request)
	if err != nil {
		return forbid(a, "failed to parse CSR: %v", err)
	}
	if slices.Contains(req.Subject.Organization, authn.PrivilegedGroup) {
		return forbid(a, "use of %s signer with system:masters group is not allowed", certificatesv1.KubeAPIServerClientSignerName)
	}
	return nil
}

// TrustBundleAttest lets only those publish a signer's trust bundle who may attest for it.
type TrustBundleAttest struct {
	operations
	authz authz.Authorizer
}

// Validate implements Validator.
func (p *TrustBundleAttest) Validate(ctx context.Context, a *Attributes) error {
	if a.Resource.Group != "certificates.k8s.io" || a.Resource.Resource != "clustertrustbundles" {
		return nil
	}
	signer := ""
	switch o := a.Object.(type) {
	case *certificatesv1.ClusterTrustBundle:
		signer = o.Spec.SignerName
	case *certificatesv1beta1.ClusterTrustBundle:
		signer = o.Spec.SignerName
	default:
		return forbid(a, "expected type ClusterTrustBundle, got: %T", a.Object)
	}
	if signer != "" && !MayUseSigner(ctx, p.authz, a.User, "attest", signer) {
		return forbid(a, "user not permitted to attest for signerName %q", signer)
	}
	return nil
}
