package resource

import (
	"fmt"
	"net"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func (c *checks) flocker(f *corev1.FlockerVolumeSource, p *field.Path) {
	if f.DatasetName == "" && f.DatasetUUID == "" {
		c.required(p, "one of datasetName and datasetUUID is required")
	}
	if f.DatasetName != "" && f.DatasetUUID != "" {
		c.invalid(p, "resource", "datasetName and datasetUUID can not be specified simultaneously")
	}
	if strings.Contains(f.DatasetName, "/") {
		c.invalid(p.Child("datasetName"), f.DatasetName, "must not contain '/'")
	}
}

func (c *checks) monitors(list []string, p *field.Path) {
	if len(list) == 0 {
		c.required(p.Child("monitors"), "")
	}
}

func (c *checks) rbd(monitors []string, image string, p *field.Path) {
	c.monitors(monitors, p)
	c.needed(p.Child("image"), image)
}

func (c *checks) secretName(r *corev1.LocalObjectReference, p *field.Path) {
	if r != nil {
		c.needed(p.Child("secretRef", "name"), r.Name)
	}
}

func (c *checks) quobyte(q *corev1.QuobyteVolumeSource, p *field.Path) {
	const pairs = "must be a host:port pair or multiple pairs separated by commas"
	switch {
	case q.Registry == "":
		c.required(p.Child("registry"), pairs)
	case len(q.Tenant) >= 65:
		c.required(p.Child("tenant"), "must be a UUID and may not exceed a length of 64 characters")
	default:
		for _, pair := range strings.Split(q.Registry, ",") {
			if _, _, err := net.SplitHostPort(pair); err != nil {
				c.invalid(p.Child("registry"), q.Registry, pairs)
			}
		}
	}
	c.needed(p.Child("volume"), q.Volume)
}

func (c *checks) flex(driver string, options map[string]string, p *field.Path) {
	c.needed(p.Child("driver"), driver)
	for k := range options {
		domain, _, _ := strings.Cut(k, "/")
		domain = "." + strings.ToLower(domain)
		if strings.HasSuffix(domain, ".kubernetes.io") || strings.HasSuffix(domain, ".k8s.io") {
			c.invalid(p.Child("options").Key(k), k, "kubernetes.io and k8s.io namespaces are reserved")
		}
	}
}

func (c *checks) azureDisk(a *corev1.AzureDiskVolumeSource, p *field.Path) {
	c.needed(p.Child("diskName"), a.DiskName)
	c.needed(p.Child("diskURI"), a.DataDiskURI)
	if a.CachingMode != nil {
		oneOf(c, p.Child("cachingMode"), *a.CachingMode, corev1.AzureDataDiskCachingNone, corev1.AzureDataDiskCachingReadOnly, corev1.AzureDataDiskCachingReadWrite)
	}
	if a.Kind == nil {
		return
	}
	oneOf(c, p.Child("kind"), *a.Kind, corev1.AzureSharedBlobDisk, corev1.AzureDedicatedBlobDisk, corev1.AzureManagedDisk)
	prefix, form := "https://", "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd"
	if *a.Kind == corev1.AzureManagedDisk {
		prefix, form = "/subscriptions/", "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}"
	}
	if !strings.HasPrefix(a.DataDiskURI, prefix) {
		c.list = append(c.list, field.NotSupported(p.Child("diskURI"), a.DataDiskURI, []string{form}))
	}
}

func (c *checks) storageOS(name, namespace string, p *field.Path) {
	c.requiredOr(p.Child("volumeName"), name, c.label)
	if namespace != "" {
		c.label(p.Child("volumeNamespace"), namespace)
	}
}

func (c *checks) scaleIO(gateway, system, volume string, p *field.Path) {
	c.needed(p.Child("gateway"), gateway)
	c.needed(p.Child("system"), system)
	c.needed(p.Child("volumeName"), volume)
}

func (c *checks) csiDriverName(name string, p *field.Path) {
	if name == "" {
		c.required(p, "")
		return
	}
	if len(name) > 63 {
		c.list = append(c.list, field.TooLong(p, "", 63))
	}
	c.invalid(p, name, validation.IsDNS1123Subdomain(strings.ToLower(name))...)
}

// projected checks a volume of several sources, whose files may not collide.
func (v *podScope) projected(s *corev1.ProjectedVolumeSource, p *field.Path) {
	v.mode(p.Child("defaultMode"), s.DefaultMode)
	paths := sets.Set[string]{}
	take := func(path string, shown any) {
		if paths.Has(path) {
			v.invalid(p, shown, "conflicting duplicate paths")
		}
		paths.Insert(path)
	}
	items := func(list []corev1.KeyToPath, name string, at *field.Path) {
		v.needed(at.Child("name"), name)
		for i := range list {
			v.keyPath(&list[i], at.Child("items").Index(i))
			if list[i].Path != "" {
				take(list[i].Path, name)
			}
		}
	}
	for i := range s.Sources {
		x, at, n := &s.Sources[i], p.Child("sources").Index(i), 0
		if x.Secret != nil {
			n++
			items(x.Secret.Items, x.Secret.Name, at.Child("secret"))
		}
		if x.ConfigMap != nil {
			n++
			items(x.ConfigMap.Items, x.ConfigMap.Name, at.Child("configMap"))
		}
		if x.DownwardAPI != nil {
			n++
			for j := range x.DownwardAPI.Items {
				f := &x.DownwardAPI.Items[j]
				v.downwardFile(f, at.Child("downwardAPI"))
				if f.Path != "" {
					take(f.Path, f.Path)
				}
			}
		}
		if t := x.ServiceAccountToken; t != nil {
			n++
			v.projectedToken(t, p, at.Child("serviceAccountToken"))
		}
		if b := x.ClusterTrustBundle; b != nil {
			n++
			v.projectedBundle(b, at.Child("clusterTrustBundle"))
			take(b.Path, b.Path)
		}
		if r := x.PodCertificate; r != nil {
			n++
			v.projectedCertificate(r, at.Child("podCertificate"), take)
		}
		if n > 1 {
			v.forbidden(at, "may not specify more than 1 volume type per source")
		}
	}
}

func (v *podScope) projectedToken(t *corev1.ServiceAccountTokenProjection, volume, p *field.Path) {
	const shortest, longest = 10 * 60, 1 << 32
	at := p.Child("expirationSeconds")
	switch s := t.ExpirationSeconds; {
	case s == nil:
		v.required(at, "")
	case *s < shortest:
		v.invalid(at, *s, "may not specify a duration less than 10 minutes")
	case *s > longest:
		v.invalid(at, *s, "may not specify a duration larger than 2^32 seconds")
	}
	v.requiredOr(volume.Child("path"), t.Path, v.notReserved)
}

func (v *podScope) projectedBundle(b *corev1.ClusterTrustBundleProjection, p *field.Path) {
	switch {
	case b.Name != nil && b.SignerName != nil:
		v.invalid(p, shown(b), "only one of name and signerName may be used")
	case b.Name != nil:
		if *b.Name == "" {
			v.required(p.Child("name"), "must be a valid object name")
		}
		for _, msg := range trustBundleName(*b.Name, false) {
			v.invalid(p.Child("name"), *b.Name, "not a valid clustertrustbundlename: "+msg)
		}
		if b.LabelSelector != nil {
			v.invalid(p.Child("labelSelector"), b.LabelSelector, "labelSelector must be unset if name is specified")
		}
	case b.SignerName != nil:
		if *b.SignerName == "" {
			v.required(p.Child("signerName"), "must be a valid signer name")
		}
		v.signerName(p.Child("signerName"), *b.SignerName)
		v.selector(p.Child("labelSelector"), b.LabelSelector)
	default:
		v.required(p, "either name or signerName must be specified")
	}
	v.needed(p.Child("path"), b.Path)
	v.notReserved(p.Child("path"), b.Path)
}

func (v *podScope) projectedCertificate(r *corev1.PodCertificateProjection, p *field.Path, take func(string, any)) {
	v.signerName(p.Child("signerName"), r.SignerName)
	v.userAnnotations(p.Child("userAnnotations"), r.UserAnnotations)
	oneOfListed(v.checks, p.Child("keyType"), r.KeyType, "RSA3072", "RSA4096", "ECDSAP256", "ECDSAP384", "ECDSAP521", "ED25519")
	if s := r.MaxExpirationSeconds; s != nil {
		most := int32(longestPodCertificate)
		if kubernetesSigner(r.SignerName) {
			most = longestOwnPodCertificate
		}
		if *s < shortestPodCertificate {
			v.invalid(p.Child("maxExpirationSeconds"), *s, "if provided, maxExpirationSeconds must be >= 3600")
		}
		if *s > most {
			v.invalid(p.Child("maxExpirationSeconds"), *s, fmt.Sprintf("if provided, maxExpirationSeconds must be <= %d", most))
		}
	}
	n := 0
	for _, f := range []struct{ name, path string }{
		{"credentialBundlePath", r.CredentialBundlePath}, {"keyPath", r.KeyPath}, {"certificateChainPath", r.CertificateChainPath},
	} {
		if f.path != "" {
			n++
			v.notReserved(p.Child(f.name), f.path)
			take(f.path, f.path)
		}
	}
	if n == 0 {
		v.required(p, "specify at least one of credentialBundlePath, keyPath, and certificateChainPath")
	}
}

// oneOfListed is oneOfRequired for a value that may be empty.
func oneOfListed[T ~string](c *checks, p *field.Path, v T, valid ...T) {
	for _, x := range valid {
		if v == x {
			return
		}
	}
	c.list = append(c.list, field.NotSupported(p, v, valid))
}

// kubernetesSigner is whether a signer is the cluster's own.
func kubernetesSigner(name string) bool {
	domain, _, _ := strings.Cut(name, "/")
	return domain == "kubernetes.io" || strings.HasSuffix(domain, ".kubernetes.io")
}

// signerName wants a domain and a path of subdomains.
func (c *checks) signerName(p *field.Path, name string) {
	if name == "" {
		c.required(p, "")
		return
	}
	domain, path, ok := strings.Cut(name, "/")
	if !ok || strings.Contains(path, "/") {
		c.invalid(p, name, "must be a fully qualified domain and path of the form 'example.com/signer-name'")
		return
	}
	c.signerParts(p, name, domain, path)
}

func (c *checks) signerParts(p *field.Path, name, domain, path string) {
	const longestDomain, longestPath = 253, 63
	c.invalid(p, domain, prefixed(domain, validation.IsDNS1123Subdomain(domain), "validating label %q: %s")...)
	labels := strings.Split(domain, ".")
	if len(labels) < 2 {
		c.invalid(p, domain, "should be a domain with at least two segments separated by dots")
	}
	for _, label := range strings.Split(path, ".") {
		c.invalid(p, path, prefixed(label, validation.IsDNS1123Subdomain(label), "validating label %q: %s")...)
	}
	if most := longestDomain + 1 + longestPath*2 + 1; len(name) > most {
		c.list = append(c.list, field.TooLong(p, name, most))
	}
}

func prefixed(label string, msgs []string, format string) []string {
	out := make([]string, len(msgs))
	for i, m := range msgs {
		out[i] = fmt.Sprintf(format, label, m)
	}
	return out
}
