package cert

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
)

// LegacyUnknown is the signer of requests from before v1.18.
const LegacyUnknown = "kubernetes.io/legacy-unknown"

func parseRequest(data []byte) (*x509.CertificateRequest, error) {
	block, _ := pem.Decode(data)
	if block == nil || block.Type != "CERTIFICATE REQUEST" {
		return nil, errors.New("PEM block type must be CERTIFICATE REQUEST")
	}
	return x509.ParseCertificateRequest(block.Bytes)
}

func has(csr *certificatesv1.CertificateSigningRequest, t certificatesv1.RequestConditionType) bool {
	return slices.ContainsFunc(csr.Status.Conditions, func(c certificatesv1.CertificateSigningRequestCondition) bool {
		return c.Type == t && (c.Status == corev1.ConditionTrue || c.Status == "")
	})
}

func usagesAre(have []certificatesv1.KeyUsage, required certificatesv1.KeyUsage) error {
	set := map[certificatesv1.KeyUsage]bool{}
	for _, u := range have {
		set[u] = true
	}
	optional := 0
	if set[certificatesv1.UsageKeyEncipherment] {
		optional = 1
	}
	if !set[certificatesv1.UsageDigitalSignature] || !set[required] || len(set) != 2+optional {
		return fmt.Errorf("usages did not match [%s %s %s]", certificatesv1.UsageDigitalSignature, certificatesv1.UsageKeyEncipherment, required)
	}
	return nil
}

// checkNode is what both kubelet signers ask of a subject.
func checkNode(cr *x509.CertificateRequest) error {
	if !slices.Equal(cr.Subject.Organization, []string{"system:nodes"}) {
		return errors.New("subject organization is not system:nodes")
	}
	if len(cr.EmailAddresses) > 0 {
		return errors.New("Email subjectAltNames are not allowed") //nolint:staticcheck // upstream's text
	}
	if len(cr.URIs) > 0 {
		return errors.New("URI subjectAltNames are not allowed")
	}
	if !strings.HasPrefix(cr.Subject.CommonName, "system:node:") {
		return errors.New("subject common name does not begin with system:node:") //nolint:staticcheck // the prefix ends so
	}
	return nil
}

func checkKubeletClient(cr *x509.CertificateRequest, usages []certificatesv1.KeyUsage) error {
	if err := checkNode(cr); err != nil {
		return err
	}
	if len(cr.DNSNames) > 0 {
		return errors.New("DNS subjectAltNames are not allowed")
	}
	if len(cr.IPAddresses) > 0 {
		return errors.New("IP subjectAltNames are not allowed")
	}
	return usagesAre(usages, certificatesv1.UsageClientAuth)
}

func checkKubeletServing(cr *x509.CertificateRequest, usages []certificatesv1.KeyUsage) error {
	if err := checkNode(cr); err != nil {
		return err
	}
	if len(cr.DNSNames) == 0 && len(cr.IPAddresses) == 0 {
		return errors.New("DNS or IP subjectAltName is required")
	}
	return usagesAre(usages, certificatesv1.UsageServerAuth)
}

// check says why a signer must not sign a request; nil means that it may.
func check(signer string, cr *x509.CertificateRequest, usages []certificatesv1.KeyUsage) error {
	switch signer {
	case certificatesv1.KubeAPIServerClientKubeletSignerName:
		return checkKubeletClient(cr, usages)
	case certificatesv1.KubeletServingSignerName:
		return checkKubeletServing(cr, usages)
	case certificatesv1.KubeAPIServerClientSignerName:
		if !slices.Contains(usages, certificatesv1.UsageClientAuth) {
			return fmt.Errorf("missing required usage for client certificate: %s", certificatesv1.UsageClientAuth)
		}
		for _, u := range usages {
			if u != certificatesv1.UsageClientAuth && u != certificatesv1.UsageDigitalSignature && u != certificatesv1.UsageKeyEncipherment {
				return fmt.Errorf("invalid usage for client certificate: %s", u)
			}
		}
		return nil
	case LegacyUnknown:
		return nil
	}
	return fmt.Errorf("unrecognized signerName: %q", signer)
}

// recognition is a request that may be approved by whoever may do the subresource.
type recognition struct{ subresource, message string }

// recognize lists how a request may be approved: as a node's renewal of its own certificate, or as its first.
func recognize(csr *certificatesv1.CertificateSigningRequest, cr *x509.CertificateRequest) []recognition {
	if csr.Spec.SignerName != certificatesv1.KubeAPIServerClientKubeletSignerName || checkKubeletClient(cr, csr.Spec.Usages) != nil {
		return nil
	}
	var out []recognition
	if csr.Spec.Username == cr.Subject.CommonName {
		out = append(out, recognition{"selfnodeclient", "Auto approving self kubelet client certificate after SubjectAccessReview."})
	}
	return append(out, recognition{"nodeclient", "Auto approving kubelet client certificate after SubjectAccessReview."})
}

// How long requests are kept, as upstream's.
const (
	keepDecided = time.Hour
	keepPending = 24 * time.Hour
)

// expired says why a request is to be deleted, empty where it is not.
func expired(csr *certificatesv1.CertificateSigningRequest, now time.Time) string {
	older := func(at time.Time, d time.Duration) bool { return !at.IsZero() && now.Sub(at) > d }
	issued := len(csr.Status.Certificate) > 0
	if len(csr.Status.Conditions) == 0 && older(csr.CreationTimestamp.Time, keepPending) {
		return "pending for too long"
	}
	for _, c := range csr.Status.Conditions {
		at := c.LastUpdateTime.Time
		switch {
		case c.Type == certificatesv1.CertificateDenied && older(at, keepDecided):
			return "denied"
		case c.Type == certificatesv1.CertificateFailed && older(at, keepDecided):
			return "failed"
		case c.Type == certificatesv1.CertificateApproved && issued && older(at, keepDecided):
			return "issued"
		case c.Type == certificatesv1.CertificateApproved && !issued && older(at, keepPending):
			return "approved and not issued for too long"
		case c.Type == certificatesv1.CertificateApproved && issued && certificateEnded(csr.Status.Certificate, now):
			return "certificate expired"
		}
	}
	return ""
}

func certificateEnded(data []byte, now time.Time) bool {
	block, _ := pem.Decode(data)
	if block == nil {
		return false
	}
	certs, err := x509.ParseCertificates(block.Bytes)
	return err == nil && len(certs) > 0 && now.After(certs[0].NotAfter)
}

// Bounds of a signed certificate's validity, as upstream's.
const (
	backdate   = 5 * time.Minute
	shortLived = 8 * time.Hour
	leastAsked = 10 * time.Minute
)

// validity is from when to when a certificate is good: asked for at most longest, started earlier for clocks that are
// late, and ended with the CA.
func validity(asked *int32, longest time.Duration, caEnd, now time.Time) (from, to time.Time, err error) {
	ttl := longest
	if asked != nil {
		ttl = min(max(time.Duration(*asked)*time.Second, leastAsked), longest)
	}
	from = now.Add(-backdate)
	if ttl < shortLived {
		// The backdate does not shorten a short life.
		to = now.Add(ttl)
	} else {
		to = now.Add(ttl - backdate)
	}
	if now.After(caEnd) {
		return from, to, fmt.Errorf("refusing to sign a certificate that expired in the past: NotAfter %s", caEnd)
	}
	if to.After(caEnd) {
		to = caEnd
	}
	return from, to, nil
}

// x509Usages splits usages into those of the key and the extended ones.
func x509Usages(usages []certificatesv1.KeyUsage) (x509.KeyUsage, []x509.ExtKeyUsage, error) {
	key := map[certificatesv1.KeyUsage]x509.KeyUsage{
		certificatesv1.UsageSigning: x509.KeyUsageDigitalSignature, certificatesv1.UsageDigitalSignature: x509.KeyUsageDigitalSignature,
		certificatesv1.UsageContentCommitment: x509.KeyUsageContentCommitment, certificatesv1.UsageKeyEncipherment: x509.KeyUsageKeyEncipherment,
		certificatesv1.UsageKeyAgreement: x509.KeyUsageKeyAgreement, certificatesv1.UsageDataEncipherment: x509.KeyUsageDataEncipherment,
		certificatesv1.UsageCertSign: x509.KeyUsageCertSign, certificatesv1.UsageCRLSign: x509.KeyUsageCRLSign,
		certificatesv1.UsageEncipherOnly: x509.KeyUsageEncipherOnly, certificatesv1.UsageDecipherOnly: x509.KeyUsageDecipherOnly,
	}
	ext := map[certificatesv1.KeyUsage]x509.ExtKeyUsage{
		certificatesv1.UsageAny: x509.ExtKeyUsageAny, certificatesv1.UsageServerAuth: x509.ExtKeyUsageServerAuth,
		certificatesv1.UsageClientAuth: x509.ExtKeyUsageClientAuth, certificatesv1.UsageCodeSigning: x509.ExtKeyUsageCodeSigning,
		certificatesv1.UsageEmailProtection: x509.ExtKeyUsageEmailProtection, certificatesv1.UsageSMIME: x509.ExtKeyUsageEmailProtection,
		certificatesv1.UsageIPsecEndSystem: x509.ExtKeyUsageIPSECEndSystem, certificatesv1.UsageIPsecTunnel: x509.ExtKeyUsageIPSECTunnel,
		certificatesv1.UsageIPsecUser: x509.ExtKeyUsageIPSECUser, certificatesv1.UsageTimestamping: x509.ExtKeyUsageTimeStamping,
		certificatesv1.UsageOCSPSigning: x509.ExtKeyUsageOCSPSigning, certificatesv1.UsageMicrosoftSGC: x509.ExtKeyUsageMicrosoftServerGatedCrypto,
		certificatesv1.UsageNetscapeSGC: x509.ExtKeyUsageNetscapeServerGatedCrypto,
	}
	var k x509.KeyUsage
	var e []x509.ExtKeyUsage
	for _, u := range usages {
		if v, ok := key[u]; ok {
			k |= v
		} else if v, ok := ext[u]; ok {
			e = append(e, v)
		} else {
			return 0, nil, fmt.Errorf("unrecognized usage %q", u)
		}
	}
	slices.Sort(e)
	return k, slices.Compact(e), nil
}
