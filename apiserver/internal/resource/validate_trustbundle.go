package resource

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"strings"

	certificatesv1 "k8s.io/api/certificates/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// maxTrustBundle bounds a bundle in bytes.
const maxTrustBundle = 1 << 20

func validateTrustBundle(b *certificatesv1.ClusterTrustBundle) field.ErrorList {
	c := &checks{}
	c.bundleNames(b)
	c.anchors(root("spec", "trustBundle"), b.Spec.TrustBundle)
	return c.list
}

// validateTrustBundleUpdate reads only anchors that are new: what Go takes for
// a certificate may change.
func validateTrustBundleUpdate(b, old *certificatesv1.ClusterTrustBundle) field.ErrorList {
	c := &checks{}
	c.bundleNames(b)
	if b.Spec.TrustBundle != old.Spec.TrustBundle {
		c.anchors(root("spec", "trustBundle"), b.Spec.TrustBundle)
	}
	c.same(root("spec", "signerName"), b.Spec.SignerName, old.Spec.SignerName)
	return c.list
}

// bundleNames wants the name of a signer's bundle to begin with the signer's.
func (c *checks) bundleNames(b *certificatesv1.ClusterTrustBundle) {
	signer, p := b.Spec.SignerName, root("metadata", "name")
	if signer == "" {
		if strings.Contains(b.Name, ":") {
			c.invalid(p, b.Name, `ClusterTrustBundle without signer name must not have ":" in its name`)
		} else {
			c.invalid(p, b.Name, apivalidation.NameIsDNSSubdomain(b.Name, false)...)
		}
		return
	}
	prefix := strings.ReplaceAll(signer, "/", ":") + ":"
	if rest, ok := strings.CutPrefix(b.Name, prefix); ok {
		c.invalid(p, b.Name, apivalidation.NameIsDNSSubdomain(rest, false)...)
	} else {
		c.invalid(p, b.Name, fmt.Sprintf("ClusterTrustBundle for signerName %s must be named with prefix %s", signer, prefix))
	}
	c.signerName(root("spec", "signerName"), signer)
}

// anchors wants PEM blocks of different certificates of authorities, and
// nothing else but text between them.
func (c *checks) anchors(p *field.Path, text string) {
	if len(text) > maxTrustBundle {
		c.list = append(c.list, field.TooLong(p, "", maxTrustBundle))
		return
	}
	wrong := func(format string, args ...any) { c.invalid(p, "<value omitted>", fmt.Sprintf(format, args...)) }
	before := len(c.list)
	seen := map[string][]int{}
	rest := []byte(text)
	for i := 0; ; i++ {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		switch {
		case block.Type != "CERTIFICATE":
			wrong("entry %d has bad block type: %v", i, block.Type)
		case len(block.Headers) != 0:
			wrong("entry %d has PEM block headers", i)
		case err != nil:
			wrong("entry %d does not parse as X.509", i)
		case !cert.IsCA:
			wrong("entry %d does not have the CA bit set", i)
		case !cert.BasicConstraintsValid:
			wrong("entry %d has invalid basic constraints", i)
		default:
			seen[string(block.Bytes)] = append(seen[string(block.Bytes)], i)
		}
	}
	if len(c.list) > before {
		return
	}
	if len(seen) == 0 {
		wrong("at least one trust anchor must be provided")
	}
	for _, at := range seen {
		if len(at) > 1 {
			wrong("duplicate trust anchor (indices %v)", at)
		}
	}
}

// trustBundleName allows the signer's name with colons for its slashes before a
// DNS subdomain.
func trustBundleName(name string, prefix bool) []string {
	if i := strings.LastIndexByte(name, ':'); i >= 0 {
		name = name[i+1:]
	}
	return apivalidation.NameIsDNSSubdomain(name, prefix)
}
