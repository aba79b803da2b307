package bootstrap

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"k8s.io/client-go/tools/clientcmd"

	"flagship/ctl/internal/pki"
)

const pkiDir = "/etc/kubernetes/pki"

// Certificate is one of those that `ctl certs` shows.
type Certificate struct {
	// Name is the file's, without .crt for those of the PKI folder.
	Name, CA string
	Expires  time.Time
	pair     *pki.Pair
}

// Certificates lists the certificates of this machine: those of the PKI folder, then those in kubeconfigs.
func Certificates() ([]Certificate, error) {
	s := &pki.Store{Dir: pkiDir}
	var out []Certificate
	for _, c := range pki.Plan(pki.Params{}) {
		p, err := s.Load(c.Name)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return out, err
		}
		out = append(out, Certificate{Name: c.Name, CA: c.CA, Expires: p.Cert.NotAfter, pair: p})
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("no certificates are in %s: this machine is not of the control plane", pkiDir)
	}
	for _, k := range pki.Kubeconfigs("") {
		cfg, err := clientcmd.LoadFromFile(filepath.Join(KubernetesDir, k.File))
		if err != nil {
			continue
		}
		for _, u := range cfg.AuthInfos {
			if cert, err := pki.ParseCert(u.ClientCertificateData); err == nil {
				out = append(out, Certificate{Name: k.File, CA: "ca", Expires: cert.NotAfter, pair: &pki.Pair{Cert: cert}})
			}
		}
	}
	return out, nil
}

// Renew signs certificates again as they were, with new keys; "all" means every one but the CAs.
func Renew(names []string, now func() time.Time) ([]string, error) {
	have, err := Certificates()
	if err != nil {
		return nil, err
	}
	var made []string
	for _, n := range names {
		if n != "all" && !slices.ContainsFunc(have, func(c Certificate) bool { return c.Name == n && c.CA != "" }) {
			return nil, fmt.Errorf("there is no certificate %q to renew", n)
		}
	}
	for _, c := range have {
		if c.CA == "" || !slices.Contains(names, "all") && !slices.Contains(names, c.Name) {
			continue
		}
		if err := renew(c, now); err != nil {
			return made, err
		}
		made = append(made, c.Name)
	}
	return made, nil
}

func renew(c Certificate, now func() time.Time) error {
	old := c.pair.Cert
	s := &pki.Store{Dir: pkiDir, Algorithm: pki.AlgorithmOf(old), Now: now}
	next := pki.Cert{
		Name: c.Name, CA: c.CA, CommonName: old.Subject.CommonName, Organization: old.Subject.Organization, Usages: old.ExtKeyUsage,
		SANs: old.DNSNames, Validity: old.NotAfter.Sub(old.NotBefore),
	}
	for _, ip := range old.IPAddresses {
		next.SANs = append(next.SANs, ip.String())
	}
	if filepath.Ext(c.Name) != ".conf" {
		return s.Renew(next)
	}
	path := filepath.Join(KubernetesDir, c.Name)
	cfg, err := clientcmd.LoadFromFile(path)
	if err != nil {
		return err
	}
	ctx := cfg.Contexts[cfg.CurrentContext]
	if ctx == nil || cfg.Clusters[ctx.Cluster] == nil {
		return fmt.Errorf("kubeconfig %s: its current context names no cluster", path)
	}
	k := pki.Kubeconfig{File: c.Name, User: ctx.AuthInfo, Organization: old.Subject.Organization}
	_, err = s.WriteKubeconfig(KubernetesDir, k, ctx.Cluster, cfg.Clusters[ctx.Cluster].Server, next, true)
	return err
}
