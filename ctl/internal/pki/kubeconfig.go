package pki

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// Kubeconfig is one of the files below /etc/kubernetes.
type Kubeconfig struct {
	// File is its name; User its certificate's common name.
	File, User   string
	Organization []string
	// Local is whether it reaches this machine's API server in place of the cluster's endpoint.
	Local bool
}

// Kubeconfigs lists them.
func Kubeconfigs(nodeName string) []Kubeconfig {
	return []Kubeconfig{
		{File: "admin.conf", User: "kubernetes-admin", Organization: []string{AdminGroup}},
		{File: "super-admin.conf", User: "kubernetes-super-admin", Organization: []string{SuperAdminGroup}},
		{File: "kubelet.conf", User: "system:node:" + nodeName, Organization: []string{"system:nodes"}},
		{File: "controller-manager.conf", User: "system:kube-controller-manager", Local: true},
		{File: "scheduler.conf", User: "system:kube-scheduler", Local: true},
	}
}

// WriteKubeconfig signs a client certificate and writes the file, unless it is there.
func (s *Store) WriteKubeconfig(dir string, k Kubeconfig, cluster, server string, c Cert, replace bool) (bool, error) {
	path := filepath.Join(dir, k.File)
	if _, err := os.Stat(path); err == nil && !replace {
		return false, nil
	}
	ca, err := s.Load("ca")
	if err != nil {
		return false, err
	}
	key, err := newKey(s.Algorithm)
	if err != nil {
		return false, err
	}
	c.Name, c.CA, c.CommonName, c.Organization = k.File, "ca", k.User, k.Organization
	c.Usages = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	pair, err := s.Issue(c, key)
	if err != nil {
		return false, err
	}
	typ, der, err := encodeKey(key)
	if err != nil {
		return false, err
	}
	cfg := NewKubeconfig(cluster, server, k.User, CertPEM(ca.Cert))
	cfg.AuthInfos[k.User] = &clientcmdapi.AuthInfo{
		ClientCertificateData: CertPEM(pair.Cert), ClientKeyData: pem.EncodeToMemory(&pem.Block{Type: typ, Bytes: der}),
	}
	return true, WriteConfig(path, cfg)
}

// NewKubeconfig is a configuration of one cluster and one user, whose credentials the caller adds.
func NewKubeconfig(cluster, server, user string, ca []byte) *clientcmdapi.Config {
	name := user + "@" + cluster
	return &clientcmdapi.Config{
		Clusters:       map[string]*clientcmdapi.Cluster{cluster: {Server: server, CertificateAuthorityData: ca}},
		Contexts:       map[string]*clientcmdapi.Context{name: {Cluster: cluster, AuthInfo: user}},
		AuthInfos:      map[string]*clientcmdapi.AuthInfo{},
		CurrentContext: name,
	}
}

// WriteConfig writes a kubeconfig for its owner alone.
func WriteConfig(path string, cfg *clientcmdapi.Config) error {
	data, err := clientcmd.Write(*cfg)
	if err != nil {
		return fmt.Errorf("kubeconfig %s: %w", path, err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o600)
}

// CertPEM is a certificate in PEM.
func CertPEM(c *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
}
