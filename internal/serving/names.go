package serving

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"strings"
)

// Names are certificates for the names that clients ask for (SNI), besides the one for all others.
type Names struct{ pairs []namedPair }

type namedPair struct {
	*KeyPair
	// names are those given; without any it is for those of the certificate.
	names []string
}

// NewNames reads a list of CERT,KEY or CERT,KEY:NAME,… of --tls-sni-cert-key. A name may begin with "*." and may be an IP address.
func NewNames(list []string) (*Names, error) {
	out := &Names{}
	for _, text := range list {
		files, names, given := strings.Cut(text, ":")
		cert, key, ok := strings.Cut(files, ",")
		if !ok || cert == "" || key == "" || strings.Contains(key, ",") {
			return nil, fmt.Errorf("--tls-sni-cert-key %s: expected comma separated certificate and key file paths", text)
		}
		pair, err := NewKeyPair(cert, key)
		if err != nil {
			return nil, fmt.Errorf("--tls-sni-cert-key: %w", err)
		}
		n := namedPair{KeyPair: pair}
		if given {
			n.names = strings.Split(names, ",")
		}
		out.pairs = append(out.pairs, n)
	}
	return out, nil
}

// Get returns the certificate that a client asks for, nil for none. Names that were given come before those of certificates. A client that names nothing is
// served by the address that it came to.
func (n *Names) Get(hello *tls.ClientHelloInfo) *tls.Certificate {
	if n == nil || len(n.pairs) == 0 {
		return nil
	}
	asked := hello.ServerName
	if asked == "" && hello.Conn != nil {
		asked, _, _ = net.SplitHostPort(hello.Conn.LocalAddr().String())
	}
	for _, given := range []bool{true, false} {
		for _, p := range n.pairs {
			if (len(p.names) > 0) != given {
				continue
			}
			cert, err := p.KeyPair.Get()
			if err != nil {
				continue
			}
			names := p.names
			if !given {
				names = namesOf(cert)
			}
			for _, name := range names {
				if nameMatches(name, asked) {
					return cert
				}
			}
		}
	}
	return nil
}

func namesOf(cert *tls.Certificate) []string {
	leaf := cert.Leaf
	if leaf == nil {
		var err error
		if leaf, err = x509.ParseCertificate(cert.Certificate[0]); err != nil {
			return nil
		}
	}
	if cn := leaf.Subject.CommonName; net.ParseIP(cn) == nil {
		return append([]string{cn}, leaf.DNSNames...)
	}
	return leaf.DNSNames
}

// nameMatches says whether a name, of which the first label may be "*", is the one that is asked for.
func nameMatches(name, asked string) bool {
	if strings.EqualFold(name, asked) {
		return name != ""
	}
	domain, ok := strings.CutPrefix(name, "*.")
	_, rest, dotted := strings.Cut(asked, ".")
	return ok && dotted && net.ParseIP(asked) == nil && strings.EqualFold(domain, rest)
}
