package node

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"flagship/internal/kube"
)

// csrTimeout is how long one request waits to be approved and signed.
const csrTimeout = 15 * time.Minute

// CertRequest is one certificate that the node asks for.
type CertRequest struct {
	Node   string
	Signer string // kubernetes.io/kube-apiserver-client-kubelet or kubernetes.io/kubelet-serving
	IPs    []net.IP
	Names  []string
}

// Request asks the API server to sign a new key for the node and waits for the answer. It returns certificate and key as
// one PEM text, as upstream stores them.
func Request(ctx context.Context, c *kube.Client, r CertRequest) ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("generate key: %w", err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject:     pkix.Name{CommonName: "system:node:" + r.Node, Organization: []string{"system:nodes"}},
		IPAddresses: r.IPs, DNSNames: r.Names,
	}, key)
	if err != nil {
		return nil, fmt.Errorf("create certificate request: %w", err)
	}
	usages := []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, certificatesv1.UsageClientAuth}
	if r.Signer == certificatesv1.KubeletServingSignerName {
		usages[1] = certificatesv1.UsageServerAuth
	}
	csr := &certificatesv1.CertificateSigningRequest{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "csr-"},
		Spec: certificatesv1.CertificateSigningRequestSpec{
			Request:    pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}),
			SignerName: r.Signer, Usages: usages,
		},
	}
	if r.Signer == certificatesv1.KubeAPIServerClientKubeletSignerName {
		csr.GenerateName, csr.Name = "", bootstrapName(key.Public(), r.Node)
	}
	api := kube.For[certificatesv1.CertificateSigningRequest, certificatesv1.CertificateSigningRequestList](c, certificatesv1.SchemeGroupVersion.WithResource("certificatesigningrequests"), "")
	made, err := api.Create(ctx, csr, metav1.CreateOptions{})
	if err != nil {
		return nil, fmt.Errorf("create certificate signing request: %w", err)
	}
	cert, err := await(ctx, func(ctx context.Context) (*certificatesv1.CertificateSigningRequest, error) {
		return api.Get(ctx, made.Name, metav1.GetOptions{})
	})
	if err != nil {
		return nil, fmt.Errorf("certificate signing request %s: %w", made.Name, err)
	}
	raw, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode key: %w", err)
	}
	return append(cert, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: raw})...), nil
}

func bootstrapName(pub crypto.PublicKey, node string) string {
	raw, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		panic(err) // a P-256 key always encodes
	}
	h := sha256.Sum256(append(raw, node...))
	enc := base64.NewEncoding("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-.").WithPadding(base64.NoPadding)
	name := []byte("node-csr-" + enc.EncodeToString(h[:]))
	for i, b := range name { // object names have no capitals
		if b >= 'A' && b <= 'Z' {
			name[i] = b + 'a' - 'A'
		}
		if b == '.' {
			name[i] = '0'
		}
	}
	if name[len(name)-1] == '-' {
		name[len(name)-1] = '0'
	}
	return string(name)
}

func await(ctx context.Context, get func(context.Context) (*certificatesv1.CertificateSigningRequest, error)) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, csrTimeout)
	defer cancel()
	for {
		csr, err := get(ctx)
		if err != nil && (apierrors.IsNotFound(err) || ctx.Err() != nil) {
			return nil, err
		}
		if err == nil {
			for _, c := range csr.Status.Conditions {
				if c.Type == certificatesv1.CertificateDenied || c.Type == certificatesv1.CertificateFailed {
					return nil, fmt.Errorf("%s: %s: %s", c.Type, c.Reason, c.Message)
				}
			}
			if len(csr.Status.Certificate) > 0 {
				return csr.Status.Certificate, nil
			}
		}
		select {
		case <-ctx.Done():
			return nil, errors.New("was neither approved nor denied in time")
		case <-time.After(time.Second):
		}
	}
}

// Store keeps one certificate as upstream's file store does: PREFIX-TIME.pem with PREFIX-current.pem linking to it.
type Store struct{ Dir, Prefix string }

// Current is the path that always shows the newest certificate.
func (s Store) Current() string { return filepath.Join(s.Dir, s.Prefix+"-current.pem") }

// Save writes a new certificate and switches to it.
func (s Store) Save(data []byte) error {
	path := filepath.Join(s.Dir, s.Prefix+"-"+time.Now().Format("2006-01-02-15-04-05")+".pem")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		return fmt.Errorf("save certificate: %w", err)
	}
	tmp := s.Current() + ".tmp"
	_ = os.Remove(tmp)
	if err := os.Symlink(path, tmp); err != nil {
		return fmt.Errorf("save certificate: %w", err)
	}
	return os.Rename(tmp, s.Current())
}

// Load reads the current certificate.
func (s Store) Load() (*tls.Certificate, error) {
	c, err := tls.LoadX509KeyPair(s.Current(), s.Current())
	if err != nil {
		return nil, err
	}
	if c.Leaf == nil {
		if c.Leaf, err = x509.ParseCertificate(c.Certificate[0]); err != nil {
			return nil, err
		}
	}
	return &c, nil
}

// Due is when a certificate is to be replaced: after a share (70 to 90%) of its life.
func Due(leaf *x509.Certificate, share float64) time.Time {
	life := leaf.NotAfter.Sub(leaf.NotBefore)
	return leaf.NotBefore.Add(time.Duration(float64(life) * (0.7 + 0.2*share)))
}
