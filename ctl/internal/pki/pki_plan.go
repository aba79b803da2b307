package pki

import (
	"crypto/x509"
	"net"
	"slices"
	"time"
)

// Cert is one certificate of the plan.
type Cert struct {
	// Name is the file below the PKI folder, without .crt and .key.
	Name string
	// CA is the name of the signer, empty for a CA.
	CA, CommonName string
	Organization   []string
	Usages         []x509.ExtKeyUsage
	SANs           []string
	// Validity counts from the time of signing.
	Validity time.Duration
}

// Params are what the certificates depend on.
type Params struct {
	NodeName, AdvertiseAddress, EndpointHost, ServiceIP, DNSDomain string
	ExtraSANs, EtcdServerSANs, EtcdPeerSANs                        []string
	// ExternalEtcd leaves out the certificates of the embedded etcd.
	ExternalEtcd         bool
	Validity, CAValidity time.Duration
}

// Admin groups: kubeadm's, bound by RBAC, and the one that RBAC cannot stop.
const (
	AdminGroup      = "kubeadm:cluster-admins"
	SuperAdminGroup = "system:masters"
)

// Plan lists every certificate in the order of signing: each CA before what it signs.
func Plan(p Params) []Cert {
	server, client := []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	both := []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	names := []string{p.NodeName, "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc." + p.DNSDomain, p.ServiceIP, p.AdvertiseAddress}
	if p.EndpointHost != "" {
		names = append(names, p.EndpointHost)
	}
	etcd := []string{p.NodeName, "localhost", p.AdvertiseAddress, "127.0.0.1", "::1"}
	out := []Cert{
		{Name: "ca", CommonName: "kubernetes", SANs: []string{"kubernetes"}},
		{Name: "apiserver", CA: "ca", CommonName: "kube-apiserver", Usages: server, SANs: append(names, p.ExtraSANs...)},
		{Name: "apiserver-kubelet-client", CA: "ca", CommonName: "kube-apiserver-kubelet-client", Organization: []string{AdminGroup}, Usages: client},
		{Name: "front-proxy-ca", CommonName: "front-proxy-ca", SANs: []string{"front-proxy-ca"}},
		{Name: "front-proxy-client", CA: "front-proxy-ca", CommonName: "front-proxy-client", Usages: client},
	}
	if !p.ExternalEtcd {
		out = append(
			out,
			Cert{Name: "etcd/ca", CommonName: "etcd-ca", SANs: []string{"etcd-ca"}},
			Cert{Name: "etcd/server", CA: "etcd/ca", CommonName: p.NodeName, Usages: both, SANs: append(slices.Clone(etcd), p.EtcdServerSANs...)},
			Cert{Name: "etcd/peer", CA: "etcd/ca", CommonName: p.NodeName, Usages: both, SANs: append(slices.Clone(etcd), p.EtcdPeerSANs...)},
			Cert{Name: "etcd/healthcheck-client", CA: "etcd/ca", CommonName: "kube-etcd-healthcheck-client", Usages: client},
			Cert{Name: "apiserver-etcd-client", CA: "etcd/ca", CommonName: "kube-apiserver-etcd-client", Usages: client},
		)
	}
	for i := range out {
		out[i].Validity = p.Validity
		if out[i].CA == "" {
			out[i].Validity = p.CAValidity
		}
	}
	return out
}

// Template is the certificate to sign, without serial number and key.
func (c Cert) template(now, notBefore time.Time) *x509.Certificate {
	t := &x509.Certificate{NotBefore: notBefore, NotAfter: now.Add(c.Validity), ExtKeyUsage: c.Usages, BasicConstraintsValid: true}
	t.Subject.CommonName, t.Subject.Organization = c.CommonName, c.Organization
	t.KeyUsage = x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment
	if c.CA == "" {
		t.IsCA, t.KeyUsage = true, t.KeyUsage|x509.KeyUsageCertSign
	}
	for _, s := range c.SANs {
		if ip := net.ParseIP(s); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
		} else if !slices.Contains(t.DNSNames, s) {
			t.DNSNames = append(t.DNSNames, s)
		}
	}
	return t
}
