package cert

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/gentype"

	"flagship/controller-manager/internal/config"
	"flagship/controller-manager/internal/loop"
	"flagship/internal/kube"
)

func requests(d loop.Deps) *gentype.ClientWithList[*certificatesv1.CertificateSigningRequest, *certificatesv1.CertificateSigningRequestList] {
	return kube.For[certificatesv1.CertificateSigningRequest, certificatesv1.CertificateSigningRequestList](d.Client,
		certificatesv1.SchemeGroupVersion.WithResource("certificatesigningrequests"), "")
}

// NewApproving returns the certificatesigningrequest-approving-controller.
func NewApproving(d loop.Deps) *loop.Controller {
	src := d.Sources.SigningRequests()
	ctl := d.Controller(5, func(ctx context.Context, name string) error {
		csr := src.Get("", name)
		if csr == nil || len(csr.Status.Certificate) > 0 || has(csr, certificatesv1.CertificateApproved) || has(csr, certificatesv1.CertificateDenied) {
			return nil
		}
		cr, err := parseRequest(csr.Spec.Request)
		if err != nil {
			return fmt.Errorf("parse request %s: %w", name, err)
		}
		return approve(ctx, d, csr, recognize(csr, cr))
	})
	loop.Watch(ctl, src, loop.Own[certificatesv1.CertificateSigningRequest])
	return ctl
}

func approve(ctx context.Context, d loop.Deps, csr *certificatesv1.CertificateSigningRequest, ways []recognition) error {
	for _, w := range ways {
		ok, err := mayApprove(ctx, d, csr, w.subresource)
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		next := csr.DeepCopy()
		next.Status.Conditions = append(next.Status.Conditions, certificatesv1.CertificateSigningRequestCondition{
			Type: certificatesv1.CertificateApproved, Status: corev1.ConditionTrue, Reason: "AutoApproved", Message: w.message,
			LastUpdateTime: metav1.NewTime(d.Now()),
		})
		r, err := d.Client.REST(certificatesv1.SchemeGroupVersion)
		if err != nil {
			return err
		}
		if err := r.Put().Resource("certificatesigningrequests").Name(csr.Name).SubResource("approval").Body(next).Do(ctx).Error(); err != nil {
			return fmt.Errorf("error updating approval for csr: %w", err)
		}
		d.Decide("CertificateSigningRequest", "", csr.Name, csr.UID, 0, "approved: "+w.message)
		return nil
	}
	if len(ways) > 0 {
		return fmt.Errorf("recognized csr %q as %v but subject access review was not approved", csr.Name, ways)
	}
	return nil
}

func mayApprove(ctx context.Context, d loop.Deps, csr *certificatesv1.CertificateSigningRequest, subresource string) (bool, error) {
	extra := map[string]authorizationv1.ExtraValue{}
	for k, v := range csr.Spec.Extra {
		extra[k] = authorizationv1.ExtraValue(v)
	}
	r, err := d.Client.REST(authorizationv1.SchemeGroupVersion)
	if err != nil {
		return false, err
	}
	got := &authorizationv1.SubjectAccessReview{}
	err = r.Post().Resource("subjectaccessreviews").Body(&authorizationv1.SubjectAccessReview{
		Spec: authorizationv1.SubjectAccessReviewSpec{
			User: csr.Spec.Username, UID: csr.Spec.UID, Groups: csr.Spec.Groups, Extra: extra,
			ResourceAttributes: &authorizationv1.ResourceAttributes{
				Group: "certificates.k8s.io", Resource: "certificatesigningrequests", Verb: "create", Subresource: subresource, Version: "*",
			},
		},
	}).Do(ctx).Into(got)
	return got.Status.Allowed, err
}

// NewSigning returns the certificatesigningrequest-signing-controller, nil where no CA is given.
func NewSigning(cfg config.Signing, d loop.Deps) (*loop.Controller, error) {
	pairs := map[string]config.KeyPair{}
	for signer, p := range cfg.BySigner {
		if p.Cert != "" {
			pairs[signer] = *p
		}
	}
	if len(pairs) == 0 && cfg.Default.Cert != "" {
		for signer := range cfg.BySigner {
			pairs[signer] = cfg.Default
		}
	}
	if len(pairs) == 0 {
		return nil, nil
	}
	for signer, p := range pairs {
		if _, _, err := loadCA(p); err != nil {
			return nil, fmt.Errorf("CA of signer %s: %w", signer, err)
		}
	}
	src := d.Sources.SigningRequests()
	ctl := d.Controller(5, func(ctx context.Context, name string) error {
		csr := src.Get("", name)
		if csr == nil || len(csr.Status.Certificate) > 0 || !has(csr, certificatesv1.CertificateApproved) ||
			has(csr, certificatesv1.CertificateDenied) || has(csr, certificatesv1.CertificateFailed) {
			return nil
		}
		p, ours := pairs[csr.Spec.SignerName]
		if !ours {
			return nil
		}
		return sign(ctx, d, csr, p, cfg.Duration)
	})
	loop.Watch(ctl, src, loop.Own[certificatesv1.CertificateSigningRequest])
	return ctl, nil
}

func sign(ctx context.Context, d loop.Deps, csr *certificatesv1.CertificateSigningRequest, p config.KeyPair, longest time.Duration) error {
	cr, err := parseRequest(csr.Spec.Request)
	if err != nil {
		return fmt.Errorf("unable to parse csr %q: %w", csr.Name, err)
	}
	next := csr.DeepCopy()
	if why := check(csr.Spec.SignerName, cr, csr.Spec.Usages); why != nil {
		next.Status.Conditions = append(next.Status.Conditions, certificatesv1.CertificateSigningRequestCondition{
			Type: certificatesv1.CertificateFailed, Status: corev1.ConditionTrue, Reason: "SignerValidationFailure", Message: why.Error(),
			LastUpdateTime: metav1.NewTime(d.Now()),
		})
	} else if next.Status.Certificate, err = issue(csr, cr, p, longest, d.Now()); err != nil {
		return fmt.Errorf("error auto signing csr: %w", err)
	}
	if _, err := requests(d).UpdateStatus(ctx, next, metav1.UpdateOptions{}); err != nil {
		return fmt.Errorf("error updating signature for csr: %w", err)
	}
	return nil
}

// loadCA reads the files on every use, so that a renewed CA is taken at once.
func loadCA(p config.KeyPair) (*x509.Certificate, crypto.Signer, error) {
	pair, err := tls.LoadX509KeyPair(p.Cert, p.Key)
	if err != nil {
		return nil, nil, fmt.Errorf("error reading CA cert and key: %w", err)
	}
	ca, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		return nil, nil, fmt.Errorf("error reading CA cert file %q: %w", p.Cert, err)
	}
	key, ok := pair.PrivateKey.(crypto.Signer)
	if !ok {
		return nil, nil, errors.New("error reading CA key file: key did not implement crypto.Signer")
	}
	return ca, key, nil
}

func issue(csr *certificatesv1.CertificateSigningRequest, cr *x509.CertificateRequest, p config.KeyPair, longest time.Duration, now time.Time) ([]byte, error) {
	ca, key, err := loadCA(p)
	if err != nil {
		return nil, err
	}
	if err := cr.CheckSignature(); err != nil {
		return nil, fmt.Errorf("unable to verify certificate request signature: %w", err)
	}
	from, to, err := validity(csr.Spec.ExpirationSeconds, longest, ca.NotAfter, now)
	if err != nil {
		return nil, err
	}
	keyUsage, ext, err := x509Usages(csr.Spec.Usages)
	if err != nil {
		return nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 128))
	if err != nil {
		return nil, fmt.Errorf("unable to generate a serial number for %s: %w", cr.Subject.CommonName, err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: serial, Subject: cr.Subject, DNSNames: cr.DNSNames, IPAddresses: cr.IPAddresses, EmailAddresses: cr.EmailAddresses, URIs: cr.URIs,
		NotBefore: from, NotAfter: to, KeyUsage: keyUsage, ExtKeyUsage: ext, BasicConstraintsValid: true,
	}, ca, cr.PublicKey, key)
	if err != nil {
		return nil, fmt.Errorf("failed to sign certificate: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), nil
}

// NewCleaner returns the certificatesigningrequest-cleaner-controller.
func NewCleaner(d loop.Deps) *loop.Controller {
	src := d.Sources.SigningRequests()
	ctl := d.Controller(1, nil)
	loop.Need(ctl, src)
	ctl.Every(time.Hour, func(ctx context.Context) error {
		var errs []error
		for _, csr := range src.All() {
			why := expired(csr, d.Now())
			if why == "" {
				continue
			}
			err := requests(d).Delete(ctx, csr.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &csr.UID}})
			if err != nil && !apierrors.IsNotFound(err) {
				errs = append(errs, fmt.Errorf("unable to delete CSR %q: %w", csr.Name, err))
				continue
			}
			d.Decide("CertificateSigningRequest", "", csr.Name, csr.UID, 0, "deleted: "+why)
		}
		return errors.Join(errs...)
	})
	return ctl
}
