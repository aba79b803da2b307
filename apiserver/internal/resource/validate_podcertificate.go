package resource

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/mail"
	"strings"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	unversioned "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Bounds of a PodCertificateRequest (KEP-4317); lifetimes are in seconds, sizes in bytes.
const (
	shortestPodCertificate    = 60 * 60
	longestPodCertificate     = 91 * 24 * 60 * 60
	longestOwnPodCertificate  = 24 * 60 * 60
	mostStubBytes             = 10 * 1024
	mostChainBytes            = 100 * 1024
	mostUIDBytes              = 128
	certificateStartsNear     = 5 * time.Minute  // of the server's clock
	certificateRefreshMargin  = 10 * time.Minute // between a refresh and either end of the certificate's life
	podCertificateDefaultLife = 24 * 60 * 60
)

func validatePodCertificateRequest(r *certificatesv1.PodCertificateRequest) field.ErrorList {
	c := &checks{}
	p, s := root("spec"), &r.Spec
	c.signerName(p.Child("signerName"), s.SignerName)
	c.userAnnotations(p.Child("unverifiedUserAnnotations"), s.UnverifiedUserAnnotations)
	for _, o := range []struct{ kind, name, uid string }{
		{"pod", s.PodName, string(s.PodUID)}, {"serviceAccount", s.ServiceAccountName, string(s.ServiceAccountUID)}, {"node", string(s.NodeName), string(s.NodeUID)},
	} {
		c.invalid(p.Child(o.kind+"Name"), o.name, apivalidation.NameIsDNSSubdomain(o.name, false)...)
		if o.uid == "" {
			c.invalid(p.Child(o.kind+"UID"), o.uid, "must not be empty")
		}
		if len(o.uid) > mostUIDBytes {
			c.list = append(c.list, field.TooLong(p.Child(o.kind+"UID"), o.uid, mostUIDBytes))
		}
	}
	if s.MaxExpirationSeconds == nil {
		c.required(p.Child("maxExpirationSeconds"), "must be set")
		return c.list
	}
	most := int32(longestPodCertificate)
	if kubernetesSigner(s.SignerName) {
		most = longestOwnPodCertificate
	}
	if n := *s.MaxExpirationSeconds; n < shortestPodCertificate || n > most {
		c.invalid(p.Child("maxExpirationSeconds"), n, fmt.Sprintf("must be in the range [%d, %d]", shortestPodCertificate, most))
	}
	if len(s.StubPKCS10Request) == 0 {
		// v1beta1, which is not served, has the other way to prove the possession of a key.
		c.invalid(p, field.OmitValueType{}, "exactly one of (stubPKCS10Request) or (pkixPublicKey, proofOfPossession) must be set")
		return c.list
	}
	c.stubRequest(s.StubPKCS10Request)
	return c.list
}

// userAnnotations wants keys with a domain, and no more than annotations may hold.
func (c *checks) userAnnotations(p *field.Path, m map[string]string) {
	for k := range m {
		c.add(validation.IsDomainPrefixedKey(p, strings.ToLower(k)))
	}
	if apivalidation.ValidateAnnotationsSize(m) != nil {
		c.list = append(c.list, field.TooLong(p, "", apivalidation.TotalAnnotationSizeLimitB))
	}
}

// stubRequest wants a PKCS #10 request that proves the possession of a key. What else it says is the signer's business.
func (c *checks) stubRequest(der []byte) {
	p := root("spec", "stubPKCS10Request")
	if len(der) > mostStubBytes {
		c.list = append(c.list, field.TooLong(p, der, mostStubBytes))
		return
	}
	r, err := x509.ParseCertificateRequest(der)
	if err != nil {
		c.invalid(p, field.OmitValueType{}, "must be a valid PKCS#10 CSR")
		return
	}
	if c.podKey(p, r.PublicKey) && r.CheckSignature() != nil {
		c.invalid(p, field.OmitValueType{}, "invalid signature")
	}
}

// podKey wants a key of a kind that pods may have.
func (c *checks) podKey(p *field.Path, key crypto.PublicKey) bool {
	switch k := key.(type) {
	case ed25519.PublicKey:
		return true
	case *ecdsa.PublicKey:
		if k.Curve == elliptic.P256() || k.Curve == elliptic.P384() || k.Curve == elliptic.P521() {
			return true
		}
		c.invalid(p, "curve "+k.Curve.Params().Name, "elliptic public keys must use curve P256, P384, or P521")
	case *rsa.PublicKey:
		bits := k.Size() * 8
		if bits == 3072 || bits == 4096 {
			return true
		}
		c.invalid(p, fmt.Sprintf("%d-bit modulus", bits), "RSA keys must have modulus size 3072 or 4096")
	default:
		c.invalid(p, field.OmitValueType{}, "unknown public key type; supported types are Ed25519, ECDSA, and RSA")
	}
	return false
}

func validatePodCertificateRequestUpdate(r, old *certificatesv1.PodCertificateRequest) field.ErrorList {
	c := &checks{}
	c.same(root("spec"), r.Spec, old.Spec)
	return c.list
}

// validatePodCertificateRequestStatus lets a request end once: issued with a certificate that is what was asked for, or
// denied or failed without one. now is the server's clock, which the certificate has to agree with.
func validatePodCertificateRequestStatus(r, old *certificatesv1.PodCertificateRequest, now time.Time) field.ErrorList {
	c := &checks{}
	p := root("status")
	c.podCertificateConditions(p.Child("conditions"), r.Status.Conditions)
	if len(c.list) > 0 {
		return c.list
	}
	unchanged := func(want certificatesv1.PodCertificateRequestStatus, detail string) field.ErrorList {
		if !apiequality.Semantic.DeepEqual(r.Status, want) {
			c.invalid(p, field.OmitValueType{}, detail)
		}
		return c.list
	}
	if ended(old) != "" {
		return unchanged(old.Status, "immutable after PodCertificateRequest is issued, denied, or failed")
	}
	switch ended(r) {
	case "":
		return unchanged(old.Status, `status is immutable unless transitioning to "Issued", "Denied", or "Failed"`)
	case certificatesv1.PodCertificateRequestConditionTypeIssued:
		c.issued(r, &old.Spec, now)
		return c.list
	}
	return unchanged(certificatesv1.PodCertificateRequestStatus{Conditions: r.Status.Conditions}, "non-condition status fields must be empty when denying or failing the PodCertificateRequest")
}

// ended is the condition that ended the request, "" for none.
func ended(r *certificatesv1.PodCertificateRequest) string {
	for _, x := range r.Status.Conditions {
		if x.Status == metav1.ConditionTrue && endsPodCertificateRequest(x.Type) {
			return x.Type
		}
	}
	return ""
}

func endsPodCertificateRequest(condition string) bool {
	return condition == certificatesv1.PodCertificateRequestConditionTypeIssued || condition == certificatesv1.PodCertificateRequestConditionTypeDenied ||
		condition == certificatesv1.PodCertificateRequestConditionTypeFailed
}

// podCertificateConditions wants at most one of the conditions that there are, and it to be true.
func (c *checks) podCertificateConditions(p *field.Path, list []metav1.Condition) {
	known := 0
	for i, x := range list {
		// Upstream puts the index behind a dot.
		at := p.Child(fmt.Sprintf("[%d]", i))
		if !endsPodCertificateRequest(x.Type) {
			c.list = append(c.list, field.NotSupported(at.Child("type"), x.Type, []string{
				certificatesv1.PodCertificateRequestConditionTypeIssued, certificatesv1.PodCertificateRequestConditionTypeDenied, certificatesv1.PodCertificateRequestConditionTypeFailed,
			}))
			continue
		}
		if known++; known > 1 {
			c.invalid(at.Child("type"), x.Type, `There may be at most one condition with type "Issued", "Denied", or "Failed"`)
		}
		if x.Status != metav1.ConditionTrue {
			c.list = append(c.list, field.NotSupported(at.Child("status"), x.Status, []metav1.ConditionStatus{metav1.ConditionTrue}))
		}
	}
	c.add(unversioned.ValidateConditions(list, p))
}

// issued wants a chain that begins with a certificate for the requested key, and times that are the certificate's.
func (c *checks) issued(r *certificatesv1.PodCertificateRequest, asked *certificatesv1.PodCertificateRequestSpec, now time.Time) {
	p, s := root("status", "certificateChain"), &r.Status
	if len(s.CertificateChain) > mostChainBytes {
		c.list = append(c.list, field.TooLong(p, s.CertificateChain, mostChainBytes))
		return
	}
	block, rest := pem.Decode([]byte(s.CertificateChain))
	if block == nil {
		c.invalid(p, s.CertificateChain, "issued certificate chain must contain at least one certificate")
		return
	}
	if block.Type != "CERTIFICATE" {
		c.invalid(p, s.CertificateChain, "issued certificate chain must consist entirely of CERTIFICATE PEM blocks")
		return
	}
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		c.invalid(p, s.CertificateChain, "leaf certificate does not parse as valid X.509")
		return
	}
	c.leafNames(p, leaf)
	stub, err := x509.ParseCertificateRequest(asked.StubPKCS10Request)
	if err != nil {
		c.invalid(root("spec", "stubPKCS10Request"), field.OmitValueType{}, "must be a valid PKCS#10 CSR")
		return
	}
	if !sameKey(stub.PublicKey, leaf.PublicKey) {
		c.invalid(p, s.CertificateChain, "leaf certificate was not issued to the requested public key")
		return
	}
	if !c.certificateTimes(r, leaf, now) {
		return
	}
	for {
		if block, rest = pem.Decode(rest); block == nil {
			return
		}
		if block.Type != "CERTIFICATE" {
			c.invalid(p, s.CertificateChain, "issued certificate chain must consist entirely of CERTFICATE PEM blocks")
			return
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			c.invalid(p, s.CertificateChain, "intermediate certificate does not parse as valid X.509")
			return
		}
	}
}

func (c *checks) leafNames(p *field.Path, leaf *x509.Certificate) {
	for _, name := range leaf.DNSNames {
		if name == "" {
			c.invalid(p, name, "leaf certificate should not contain empty DNSName")
		}
		if strings.Contains(name, "..") {
			c.invalid(p, name, "leaf certificate's DNSName should not contain '..'")
		}
		if strings.HasPrefix(name, ".") || strings.HasSuffix(name, ".") {
			c.invalid(p, name, "leaf certificate's DNSName should not start or end with '.'")
		}
	}
	for _, address := range leaf.EmailAddresses {
		if _, err := mail.ParseAddress(address); err != nil {
			c.invalid(p, address, "leaf certificate should not contain invalid EmailAddress")
		}
	}
}

func sameKey(a, b crypto.PublicKey) bool {
	k, ok := a.(interface{ Equal(x crypto.PublicKey) bool })
	return ok && k.Equal(b)
}

// certificateTimes wants the status to tell the certificate's own times, and these to be what the request allows.
func (c *checks) certificateTimes(r *certificatesv1.PodCertificateRequest, leaf *x509.Certificate, now time.Time) bool {
	s, p := &r.Status, root("status")
	from, to, refresh := p.Child("notBefore"), p.Child("notAfter"), p.Child("beginRefreshAt")
	if s.NotBefore == nil {
		c.required(from, "must be present and consistent with the issued certificate")
	}
	if s.NotAfter == nil {
		c.required(to, "must be present and consistent with the issued certificate")
	}
	if s.BeginRefreshAt == nil {
		c.required(refresh, "must be present and in the range [notbefore+10min, notafter-10min]")
	}
	if len(c.list) > 0 {
		return false
	}
	life := leaf.NotAfter.Sub(leaf.NotBefore)
	longest := int32(podCertificateDefaultLife)
	if r.Spec.MaxExpirationSeconds != nil {
		longest = *r.Spec.MaxExpirationSeconds
	}
	switch begin := s.NotBefore.Time; {
	case !begin.Equal(leaf.NotBefore):
		c.invalid(from, begin, "must be set to the NotBefore time encoded in the leaf certificate")
	case !begin.After(now.Add(-certificateStartsNear)) || !begin.Before(now.Add(certificateStartsNear)):
		c.invalid(from, begin, "must be set to within 5 minutes of kube-apiserver's current time")
	case !s.NotAfter.Time.Equal(leaf.NotAfter):
		c.invalid(to, s.NotAfter.Time, "must be set to the NotAfter time encoded in the leaf certificate")
	case life < shortestPodCertificate*time.Second:
		c.invalid(p.Child("certificateChain"), life, "leaf certificate lifetime must be >= 1 hour")
	case life > time.Duration(longest)*time.Second:
		c.invalid(p.Child("certificateChain"), life, fmt.Sprintf("leaf certificate lifetime must be <= spec.maxExpirationSeconds (%v)", longest))
	case s.BeginRefreshAt.Time.Before(begin.Add(certificateRefreshMargin)):
		c.invalid(refresh, s.BeginRefreshAt.Time, "must be at least 10 minutes after status.notBefore")
	case s.BeginRefreshAt.Time.After(s.NotAfter.Time.Add(-certificateRefreshMargin)):
		c.invalid(refresh, s.BeginRefreshAt.Time, "must be at least 10 minutes before status.notAfter")
	default:
		return true
	}
	return false
}
