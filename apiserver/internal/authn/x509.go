package authn

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"sync"
	"time"
)

// reloadInterval is how long a file of certificate authorities is trusted to be unchanged.
const reloadInterval = time.Minute

// CAFile is a bundle of certificate authorities that follows its file. If the file becomes unreadable or empty, the
// last good bundle stays in use.
type CAFile struct {
	path string
	now  func() time.Time

	mu      sync.Mutex // guards what follows
	checked time.Time
	data    []byte
	pool    *x509.CertPool
}

// LoadCAFile reads a PEM bundle.
func LoadCAFile(path string) (*CAFile, error) {
	f := &CAFile{path: path, now: time.Now}
	if err := f.reload(); err != nil {
		return nil, err
	}
	f.checked = f.now()
	return f, nil
}

func (f *CAFile) reload() error {
	data, err := os.ReadFile(f.path)
	if err != nil {
		return fmt.Errorf("read CA bundle: %w", err)
	}
	if bytes.Equal(data, f.data) {
		return nil
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(data) {
		return fmt.Errorf("read CA bundle %s: no certificate in it", f.path)
	}
	f.data, f.pool = data, pool
	return nil
}

// Pool returns the current bundle.
func (f *CAFile) Pool() *x509.CertPool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if now := f.now(); now.Sub(f.checked) >= reloadInterval {
		f.checked = now
		_ = f.reload() // the last good bundle stays in use
	}
	return f.pool
}

// PEM returns the current bundle as it is in the file.
func (f *CAFile) PEM() []byte {
	f.Pool()
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.data
}

// Certificates recognizes client certificates: the common name is the user, organizations are its groups.
type Certificates struct {
	CA      *CAFile
	Metrics *Metrics
}

// Authenticate implements Authenticator.
func (c Certificates) Authenticate(req *http.Request) (*Identity, bool, error) {
	if req.TLS == nil || len(req.TLS.PeerCertificates) == 0 {
		return nil, false, nil
	}
	leaf := req.TLS.PeerCertificates[0]
	c.Metrics.expiry.Observe(time.Until(leaf.NotAfter).Seconds()) // before it is verified, so that those that have expired are seen
	if err := verify(c.CA.Pool(), req.TLS.PeerCertificates); err != nil {
		return nil, false, fmt.Errorf("verifying certificate %s failed: %w", certificateName(leaf), err)
	}
	if leaf.Subject.CommonName == "" {
		return nil, false, nil
	}
	uid, err := certificateUID(leaf)
	if err != nil {
		return nil, false, err
	}
	sum := sha256.Sum256(leaf.Raw)
	return &Identity{
		Name:   leaf.Subject.CommonName,
		UID:    uid,
		Groups: leaf.Subject.Organization,
		Extra:  map[string][]string{CredentialIDKey: {"X509SHA256=" + hex.EncodeToString(sum[:])}},
	}, true, nil
}

func verify(roots *x509.CertPool, chain []*x509.Certificate) error {
	opts := x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	if len(chain) > 1 {
		opts.Intermediates = x509.NewCertPool()
		for _, c := range chain[1:] {
			opts.Intermediates.AddCert(c)
		}
	}
	_, err := chain[0].Verify(opts)
	return err
}

func certificateName(c *x509.Certificate) string {
	return fmt.Sprintf("SN=%d, SKID=%X, AKID=%X", c.SerialNumber, c.SubjectKeyId, c.AuthorityKeyId)
}

// certificateUID reads the attribute of a subject that carries a user's UID (1.3.6.1.4.1.57683.2).
func certificateUID(c *x509.Certificate) (string, error) {
	oid := asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57683, 2}
	uid, found := "", false
	for _, name := range c.Subject.Names {
		if !name.Type.Equal(oid) {
			continue
		}
		s, ok := name.Value.(string)
		switch {
		case found:
			return "", errors.New("expected 1 UID, but found multiple")
		case !ok:
			return "", errors.New("unable to parse UID into a string")
		case s == "":
			return "", errors.New("UID cannot be an empty string")
		}
		uid, found = s, true
	}
	return uid, nil
}

// FrontProxy recognizes users named in headers by a proxy that shows a certificate of its own authority.
type FrontProxy struct {
	CA                                        *CAFile
	AllowedNames                              []string // common names of the proxy; empty allows any
	UsernameHeaders, UIDHeaders, GroupHeaders []string
	ExtraHeaderPrefixes                       []string
}

// Authenticate implements Authenticator.
func (f FrontProxy) Authenticate(req *http.Request) (*Identity, bool, error) {
	if req.TLS == nil || len(req.TLS.PeerCertificates) == 0 {
		return nil, false, nil
	}
	name := firstHeader(req.Header, f.UsernameHeaders)
	if name == "" {
		return nil, false, nil
	}
	if err := verify(f.CA.Pool(), req.TLS.PeerCertificates); err != nil {
		return nil, false, err
	}
	cn := req.TLS.PeerCertificates[0].Subject.CommonName
	if len(f.AllowedNames) > 0 && !slices.Contains(f.AllowedNames, cn) {
		return nil, false, fmt.Errorf("x509: subject with cn=%s is not in the allowed list", cn)
	}
	id := &Identity{
		Name:   name,
		UID:    firstHeader(req.Header, f.UIDHeaders),
		Groups: allHeaders(req.Header, f.GroupHeaders),
		Extra:  extraHeaders(req.Header, f.ExtraHeaderPrefixes),
	}
	f.clear(req.Header)
	return id, true, nil
}
