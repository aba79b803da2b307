package serving

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	certutil "k8s.io/client-go/util/cert"
)

func tlsVersion(name string) (uint16, error) {
	switch name {
	case "", "VersionTLS12":
		return tls.VersionTLS12, nil
	case "VersionTLS13":
		return tls.VersionTLS13, nil
	}
	return 0, fmt.Errorf("--tls-min-version: unknown version %q: want VersionTLS12 or VersionTLS13", name)
}

func cipherSuites(names []string) ([]uint16, error) {
	var out []uint16
	for _, n := range names {
		i := slices.IndexFunc(tls.CipherSuites(), func(s *tls.CipherSuite) bool { return s.Name == n })
		if i < 0 {
			return nil, fmt.Errorf("--tls-cipher-suites: unknown or insecure suite %q", n)
		}
		out = append(out, tls.CipherSuites()[i].ID)
	}
	return out, nil
}

// reloadInterval is the least time between looks at a file for a change.
const reloadInterval = 5 * time.Second

// KeyPair is a certificate and key in files, read again when they change.
// It is safe for concurrent use.
type KeyPair struct {
	certFile, keyFile string

	mu      sync.Mutex // guards what follows
	cert    *tls.Certificate
	stamp   [2]time.Time
	checked time.Time
}

// NewKeyPair reads the files once, so that a wrong one is known at the start.
func NewKeyPair(certFile, keyFile string) (*KeyPair, error) {
	k := &KeyPair{certFile: certFile, keyFile: keyFile}
	if _, err := k.Get(); err != nil {
		return nil, err
	}
	return k, nil
}

// Get returns the current certificate; after a failed reload, the last good.
func (k *KeyPair) Get() (*tls.Certificate, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.cert != nil && time.Since(k.checked) < reloadInterval {
		return k.cert, nil
	}
	k.checked = time.Now()
	stamp := [2]time.Time{modTime(k.certFile), modTime(k.keyFile)}
	if k.cert != nil && stamp == k.stamp {
		return k.cert, nil
	}
	cert, err := tls.LoadX509KeyPair(k.certFile, k.keyFile)
	if err != nil {
		if k.cert != nil {
			return k.cert, nil
		}
		return nil, fmt.Errorf("load certificate %s and key %s: %w", k.certFile, k.keyFile, err)
	}
	k.cert, k.stamp = &cert, stamp
	return k.cert, nil
}

func modTime(path string) time.Time {
	info, err := os.Stat(path)
	if err != nil {
		return time.Time{}
	}
	return info.ModTime()
}

// selfSigned makes a serving certificate, or reads the one it made before.
func selfSigned(component, dir string, address net.IP) (tls.Certificate, error) {
	host, err := os.Hostname()
	if err != nil {
		host = component
	}
	ips := []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}
	if address != nil && !address.IsUnspecified() {
		ips = append(ips, address)
	}
	certFile, keyFile := filepath.Join(dir, component+".crt"), filepath.Join(dir, component+".key")
	if dir != "" {
		if cert, err := tls.LoadX509KeyPair(certFile, keyFile); err == nil {
			return cert, nil
		}
	}
	certPEM, keyPEM, err := newCertificate(host, ips, time.Now())
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make self-signed certificate: %w", err)
	}
	if dir != "" {
		if err := certutil.WriteCert(certFile, certPEM); err != nil {
			return tls.Certificate{}, fmt.Errorf("write self-signed certificate: %w", err)
		}
		if err := os.WriteFile(keyFile, keyPEM, 0o600); err != nil {
			return tls.Certificate{}, fmt.Errorf("write self-signed key: %w", err)
		}
	}
	return tls.X509KeyPair(certPEM, keyPEM)
}

// newCertificate makes a certificate that is its own CA, for a year. Its key is of an elliptic curve: the two RSA keys that
// client-go's package makes take 80 ms of the processor at each start.
func newCertificate(host string, ips []net.IP, now time.Time) (certPEM, keyPEM []byte, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: fmt.Sprintf("%s@%d", host, now.Unix())},
		NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(1, 0, 0), // clocks may differ
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true, IsCA: true, IPAddresses: ips, DNSNames: []string{host, "localhost"},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, nil, err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), nil
}

// CAFile is a bundle of CAs in a file, read again when it changes. It is safe
// for concurrent use.
type CAFile struct {
	path string

	mu      sync.Mutex // guards what follows
	pool    *x509.CertPool
	stamp   time.Time
	checked time.Time
}

// NewCAFile reads the file once.
func NewCAFile(path string) (*CAFile, error) {
	c := &CAFile{path: path}
	if c.Pool() == nil {
		return nil, fmt.Errorf("read CA file %s: no certificate in it", path)
	}
	return c, nil
}

// Pool returns the current CAs; after a failed reload, the last good ones.
func (c *CAFile) Pool() *x509.CertPool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pool != nil && time.Since(c.checked) < reloadInterval {
		return c.pool
	}
	c.checked = time.Now()
	stamp := modTime(c.path)
	if c.pool != nil && stamp.Equal(c.stamp) {
		return c.pool
	}
	if pool, err := certutil.NewPool(c.path); err == nil {
		c.pool, c.stamp = pool, stamp
	}
	return c.pool
}
