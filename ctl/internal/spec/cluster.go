package spec

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
)

// The versions and defaults of a cluster.
const (
	KubernetesVersion = "v1.37.2"
	CoreDNSVersion    = "v1.15.0"
	PauseVersion      = "3.10.2"
	PodSubnet         = "10.244.0.0/16"
	ControlPlaneTaint = "node-role.kubernetes.io/control-plane"
	NodeTokenGroup    = "system:bootstrappers:kubeadm:default-node-token"
)

// Flags are what `ctl init` takes beside a file; a flag that is given wins over the file.
type Flags struct {
	AdvertiseAddress, CertDir, Endpoint, CRISocket, ImageRepository, Version, NodeName string
	PodSubnet, ServiceSubnet, DNSDomain, Token                                         string
	BindPort                                                                           int32
	CertSANs, IgnorePreflight, SkipPhases                                              []string
	TokenTTL                                                                           time.Duration
	// Schedulable leaves out the control-plane taint.
	Schedulable bool
}

// Machine is what defaults are taken from.
type Machine struct {
	Hostname, Address string
}

// Complete applies flags and defaults to the documents, and validates them. Every problem is in the error.
func (d *Documents) Complete(f Flags, m Machine, now time.Time, newToken func() string) error {
	i, c := &d.Init, &d.Cluster
	i.TypeMeta = metav1.TypeMeta{APIVersion: APIVersion, Kind: "InitConfiguration"}
	c.TypeMeta = metav1.TypeMeta{APIVersion: APIVersion, Kind: "ClusterConfiguration"}
	over(&i.LocalAPIEndpoint.AdvertiseAddress, f.AdvertiseAddress, m.Address)
	if f.BindPort != 0 {
		i.LocalAPIEndpoint.BindPort = f.BindPort
	} else if i.LocalAPIEndpoint.BindPort == 0 {
		i.LocalAPIEndpoint.BindPort = 6443
	}
	over(&i.NodeRegistration.Name, f.NodeName, m.Hostname)
	i.NodeRegistration.Name = strings.ToLower(i.NodeRegistration.Name)
	over(&i.NodeRegistration.CRISocket, f.CRISocket, "")
	i.NodeRegistration.IgnorePreflightErrors = append(i.NodeRegistration.IgnorePreflightErrors, f.IgnorePreflight...)
	i.SkipPhases = append(i.SkipPhases, f.SkipPhases...)
	if i.NodeRegistration.Taints == nil && !f.Schedulable {
		i.NodeRegistration.Taints = []corev1.Taint{{Key: ControlPlaneTaint, Effect: corev1.TaintEffectNoSchedule}}
	}
	over(&c.CertificatesDir, f.CertDir, "/etc/kubernetes/pki")
	over(&c.ControlPlaneEndpoint, f.Endpoint, "")
	over(&c.ImageRepository, f.ImageRepository, "registry.k8s.io")
	over(&c.KubernetesVersion, f.Version, KubernetesVersion)
	over(&c.Networking.PodSubnet, f.PodSubnet, PodSubnet)
	over(&c.Networking.ServiceSubnet, f.ServiceSubnet, "10.96.0.0/12")
	over(&c.Networking.DNSDomain, f.DNSDomain, "cluster.local")
	over(&c.ClusterName, "", "kubernetes")
	over(&c.EncryptionAlgorithm, "", "RSA-2048")
	c.APIServer.CertSANs = append(c.APIServer.CertSANs, f.CertSANs...)
	if c.CertificateValidityPeriod == nil {
		c.CertificateValidityPeriod = &metav1.Duration{Duration: 365 * 24 * time.Hour}
	}
	if c.CACertificateValidityPeriod == nil {
		c.CACertificateValidityPeriod = &metav1.Duration{Duration: 10 * 365 * 24 * time.Hour}
	}
	if c.Etcd.Local == nil && c.Etcd.External == nil {
		c.Etcd.Local = &LocalEtcd{}
	}
	if l := c.Etcd.Local; l != nil {
		over(&l.DataDir, "", "/var/lib/etcd")
	}
	d.tokens(f, newToken)
	return d.validate()
}

func (d *Documents) tokens(f Flags, newToken func() string) {
	i := &d.Init
	if f.Token != "" || len(i.BootstrapTokens) == 0 {
		i.BootstrapTokens = []BootstrapToken{{Token: f.Token}}
	}
	for n := range i.BootstrapTokens {
		t := &i.BootstrapTokens[n]
		if t.Token == "" {
			t.Token = newToken()
		}
		if t.TTL == nil && t.Expires == nil {
			ttl := 24 * time.Hour
			if f.TokenTTL != 0 {
				ttl = f.TokenTTL
			}
			t.TTL = &metav1.Duration{Duration: ttl}
		}
		if len(t.Usages) == 0 {
			t.Usages = []string{"signing", "authentication"}
		}
		if len(t.Groups) == 0 {
			t.Groups = []string{NodeTokenGroup}
		}
	}
}

// over sets a value to the flag's where it is given, and to the default where nothing else is.
func over(p *string, flag, def string) {
	if flag != "" {
		*p = flag
	} else if *p == "" {
		*p = def
	}
}

// tokenPattern is the form of a bootstrap token.
var tokenPattern = regexp.MustCompile(`^[a-z0-9]{6}\.[a-z0-9]{16}$`)

// ValidToken returns why a text is not a bootstrap token.
func ValidToken(token string) error {
	if !tokenPattern.MatchString(token) {
		return fmt.Errorf("the bootstrap token %q was not of the form %q", token, tokenPattern)
	}
	return nil
}

func (d *Documents) validate() error {
	i, c := &d.Init, &d.Cluster
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if net.ParseIP(i.LocalAPIEndpoint.AdvertiseAddress) == nil {
		bad("localAPIEndpoint.advertiseAddress: %q is not an IP address", i.LocalAPIEndpoint.AdvertiseAddress)
	}
	if p := i.LocalAPIEndpoint.BindPort; p < 1 || p > 65535 {
		bad("localAPIEndpoint.bindPort: %d is not in 1 to 65535", p)
	}
	if problems := validation.IsDNS1123Subdomain(i.NodeRegistration.Name); len(problems) > 0 {
		bad("nodeRegistration.name: %q: %s", i.NodeRegistration.Name, problems[0])
	}
	for _, t := range i.BootstrapTokens {
		if err := ValidToken(t.Token); err != nil {
			errs = append(errs, err)
		}
	}
	for field, cidr := range map[string]string{"networking.serviceSubnet": c.Networking.ServiceSubnet, "networking.podSubnet": c.Networking.PodSubnet} {
		for part := range strings.SplitSeq(cidr, ",") {
			if p, err := netip.ParsePrefix(part); err != nil {
				bad("%s: %q is not a CIDR", field, part)
			} else if p.Masked() != p {
				bad("%s: %q has bits set after its prefix; %s is meant", field, part, p.Masked())
			}
		}
	}
	if problems := validation.IsDNS1123Subdomain(c.Networking.DNSDomain); len(problems) > 0 {
		bad("networking.dnsDomain: %q: %s", c.Networking.DNSDomain, problems[0])
	}
	if !strings.HasPrefix(c.KubernetesVersion, "v1.37.") {
		bad("kubernetesVersion: %q is not one that this ctl installs: v1.37.x is", c.KubernetesVersion)
	}
	if !slices.Contains([]string{"RSA-2048", "RSA-3072", "RSA-4096", "ECDSA-P256", "ECDSA-P384"}, c.EncryptionAlgorithm) {
		bad("encryptionAlgorithm: %q is none of RSA-2048, RSA-3072, RSA-4096, ECDSA-P256, ECDSA-P384", c.EncryptionAlgorithm)
	}
	if c.Etcd.Local != nil && c.Etcd.External != nil {
		bad("etcd: local and external exclude each other")
	}
	if i.CertificateKey != "" {
		bad("certificateKey: a second control-plane machine is not supported by this version")
	}
	if i.Patches != nil && i.Patches.Directory != "" {
		bad("patches.directory: patches of static pods are not supported by this version; use extraArgs, extraVolumes and extraEnvs")
	}
	if i.DryRun {
		bad("dryRun is not supported by this version; `ctl init phase preflight` changes nothing")
	}
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(errs...)
}

// Endpoint is where clients reach the cluster, as host:port.
func (d *Documents) Endpoint() string {
	e := d.Cluster.ControlPlaneEndpoint
	if e == "" {
		return d.LocalEndpoint()
	}
	if _, _, err := net.SplitHostPort(e); err != nil {
		return net.JoinHostPort(e, strconv.Itoa(int(d.Init.LocalAPIEndpoint.BindPort)))
	}
	return e
}

// LocalEndpoint is this machine's API server, as host:port.
func (d *Documents) LocalEndpoint() string {
	return net.JoinHostPort(d.Init.LocalAPIEndpoint.AdvertiseAddress, strconv.Itoa(int(d.Init.LocalAPIEndpoint.BindPort)))
}

// ServiceIP is the nth address of the service range: the first is kubernetes', the tenth the DNS service's.
func (d *Documents) ServiceIP(n int) string {
	first, _, _ := strings.Cut(d.Cluster.Networking.ServiceSubnet, ",")
	p, err := netip.ParsePrefix(first)
	if err != nil {
		return ""
	}
	a := p.Masked().Addr()
	for range n {
		a = a.Next()
	}
	return a.String()
}

// Images are the images of the cluster by component.
func (d *Documents) Images() map[string]string { return ImagesOf(&d.Cluster) }

// ImagesOf are the images of a cluster by component.
func ImagesOf(c *ClusterConfiguration) map[string]string {
	repo := c.ImageRepository
	out := map[string]string{"pause": repo + "/pause:" + PauseVersion}
	for _, n := range []string{"kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy"} {
		out[n] = repo + "/" + n + ":" + c.KubernetesVersion
	}
	dns, tag := repo+"/coredns", CoreDNSVersion
	if c.DNS.ImageRepository != "" {
		dns = c.DNS.ImageRepository
	}
	if c.DNS.ImageTag != "" {
		tag = c.DNS.ImageTag
	}
	out["coredns"] = dns + "/coredns:" + tag
	return out
}

func newReader(data []byte) *bufio.Reader { return bufio.NewReader(bytes.NewReader(data)) }
