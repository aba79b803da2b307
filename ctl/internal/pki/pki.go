package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"
)

// backdate allows for machines whose clocks are behind.
const backdate = 5 * time.Minute

// Store is a PKI folder.
type Store struct {
	Dir string
	// Algorithm is one of kubeadm's: RSA-2048 and so on.
	Algorithm string
	Now       func() time.Time
}

// Pair is a certificate and its key; the key is nil where only the certificate is there.
type Pair struct {
	Cert *x509.Certificate
	Key  crypto.Signer
}

// Create makes what is missing of the plan, and the service-account keys. The answer names what it made.
func (s *Store) Create(plan []Cert) ([]string, error) {
	keys := make([]crypto.Signer, len(plan)+1)
	var g errgroup.Group
	g.SetLimit(2)
	for i := range keys {
		name := "sa"
		if i < len(plan) {
			name = plan[i].Name
		}
		if s.exists(name) {
			continue
		}
		g.Go(func() error {
			k, err := newKey(s.Algorithm)
			keys[i] = k
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, fmt.Errorf("generate keys: %w", err)
	}
	var made []string
	for i, c := range plan {
		if keys[i] == nil {
			if err := s.check(c); err != nil {
				return made, err
			}
			continue
		}
		if err := s.sign(c, keys[i]); err != nil {
			return made, err
		}
		made = append(made, c.Name)
	}
	if k := keys[len(plan)]; k != nil {
		pub, err := x509.MarshalPKIXPublicKey(k.Public())
		if err != nil {
			return made, err
		}
		if err := s.writeKey("sa", k); err != nil {
			return made, err
		}
		if err := s.write("sa.pub", "PUBLIC KEY", pub, 0o644); err != nil {
			return made, err
		}
		made = append(made, "sa")
	}
	return made, nil
}

func (s *Store) exists(name string) bool {
	ext := ".crt"
	if name == "sa" {
		ext = ".key"
	}
	_, err := os.Stat(filepath.Join(s.Dir, name+ext))
	return err == nil
}

// check says whether a certificate that is kept fits: it is signed by its CA, not over, and has the names.
func (s *Store) check(c Cert) error {
	p, err := s.Load(c.Name)
	if err != nil {
		return err
	}
	if now := s.Now(); now.After(p.Cert.NotAfter) {
		return fmt.Errorf("certificate %s.crt in %s expired at %s: `ctl certs renew %s`, or remove it", c.Name, s.Dir, p.Cert.NotAfter.Format(time.RFC3339), c.Name)
	}
	if c.CA == "" {
		return nil
	}
	ca, err := s.Load(c.CA)
	if err != nil {
		return err
	}
	if err := p.Cert.CheckSignatureFrom(ca.Cert); err != nil {
		return fmt.Errorf("certificate %s.crt in %s is not signed by %s.crt: %w; remove it to have it made again", c.Name, s.Dir, c.CA, err)
	}
	for _, san := range c.SANs {
		if err := p.Cert.VerifyHostname(san); err != nil {
			return fmt.Errorf("certificate %s.crt in %s: %w; remove it to have it made again", c.Name, s.Dir, err)
		}
	}
	return nil
}

// Renew signs a certificate of the plan again, with a new key.
func (s *Store) Renew(c Cert) error {
	key, err := newKey(s.Algorithm)
	if err != nil {
		return err
	}
	return s.sign(c, key)
}

func (s *Store) sign(c Cert, key crypto.Signer) error {
	pair, err := s.Issue(c, key)
	if err != nil {
		return err
	}
	if err := s.writeKey(c.Name, key); err != nil {
		return err
	}
	return s.write(c.Name+".crt", "CERTIFICATE", pair.Cert.Raw, 0o644)
}

// Issue signs a certificate without writing it; a CA signs itself.
func (s *Store) Issue(c Cert, key crypto.Signer) (*Pair, error) {
	now := s.Now()
	t := c.template(now, now.Add(-backdate).UTC())
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 63))
	if err != nil {
		return nil, err
	}
	t.SerialNumber = serial
	parent, signer := t, key
	if c.CA != "" {
		ca, err := s.Load(c.CA)
		if err != nil {
			return nil, err
		}
		if ca.Key == nil {
			return nil, fmt.Errorf("sign %s: the key %s.key is not in %s", c.Name, c.CA, s.Dir)
		}
		parent, signer = ca.Cert, ca.Key
		if t.NotAfter.After(ca.Cert.NotAfter) {
			t.NotAfter = ca.Cert.NotAfter
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, t, parent, key.Public(), signer)
	if err != nil {
		return nil, fmt.Errorf("sign %s: %w", c.Name, err)
	}
	cert, err := x509.ParseCertificate(der)
	return &Pair{Cert: cert, Key: key}, err
}

// Load reads a certificate and, where it is there, its key.
func (s *Store) Load(name string) (*Pair, error) {
	data, err := os.ReadFile(filepath.Join(s.Dir, name+".crt"))
	if err != nil {
		return nil, fmt.Errorf("read certificate: %w", err)
	}
	cert, err := ParseCert(data)
	if err != nil {
		return nil, fmt.Errorf("certificate %s.crt in %s: %w", name, s.Dir, err)
	}
	p := &Pair{Cert: cert}
	data, err = os.ReadFile(filepath.Join(s.Dir, name+".key"))
	if errors.Is(err, os.ErrNotExist) {
		return p, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read key: %w", err)
	}
	if p.Key, err = parseKey(data); err != nil {
		return nil, fmt.Errorf("key %s.key in %s: %w", name, s.Dir, err)
	}
	return p, nil
}

// ParseCert reads the first certificate of PEM.
func ParseCert(data []byte) (*x509.Certificate, error) {
	b, _ := pem.Decode(data)
	if b == nil || b.Type != "CERTIFICATE" {
		return nil, errors.New("no PEM certificate in it")
	}
	return x509.ParseCertificate(b.Bytes)
}

func parseKey(data []byte) (crypto.Signer, error) {
	b, _ := pem.Decode(data)
	if b == nil {
		return nil, errors.New("no PEM key in it")
	}
	switch b.Type {
	case "RSA PRIVATE KEY":
		return x509.ParsePKCS1PrivateKey(b.Bytes)
	case "EC PRIVATE KEY":
		return x509.ParseECPrivateKey(b.Bytes)
	}
	k, err := x509.ParsePKCS8PrivateKey(b.Bytes)
	if err != nil {
		return nil, err
	}
	s, ok := k.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("a key of type %T cannot sign", k)
	}
	return s, nil
}

func newKey(algorithm string) (crypto.Signer, error) {
	switch algorithm {
	case "RSA-2048", "":
		return rsa.GenerateKey(rand.Reader, 2048)
	case "RSA-3072":
		return rsa.GenerateKey(rand.Reader, 3072)
	case "RSA-4096":
		return rsa.GenerateKey(rand.Reader, 4096)
	case "ECDSA-P256":
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "ECDSA-P384":
		return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	}
	return nil, fmt.Errorf("key algorithm %q is not known", algorithm)
}

func (s *Store) writeKey(name string, key crypto.Signer) error {
	typ, der, err := encodeKey(key)
	if err != nil {
		return err
	}
	return s.write(name+".key", typ, der, 0o600)
}

func encodeKey(key crypto.Signer) (string, []byte, error) {
	switch k := key.(type) {
	case *rsa.PrivateKey:
		return "RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(k), nil
	case *ecdsa.PrivateKey:
		der, err := x509.MarshalECPrivateKey(k)
		return "EC PRIVATE KEY", der, err
	}
	return "", nil, fmt.Errorf("a key of type %T cannot be written", key)
}

func (s *Store) write(name, typ string, der []byte, mode os.FileMode) error {
	path := filepath.Join(s.Dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: typ, Bytes: der}), mode)
}

// PublicKeyHash is the pin of a CA as `ctl join` takes it: sha256:HEX of the DER public key.
func PublicKeyHash(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// AlgorithmOf is the name of a certificate's key algorithm, as Store takes it.
func AlgorithmOf(c *x509.Certificate) string {
	switch k := c.PublicKey.(type) {
	case *rsa.PublicKey:
		return fmt.Sprintf("RSA-%d", k.N.BitLen())
	case *ecdsa.PublicKey:
		return fmt.Sprintf("ECDSA-P%d", k.Curve.Params().BitSize)
	}
	return ""
}
