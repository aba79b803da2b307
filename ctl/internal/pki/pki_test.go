package pki

import (
	"crypto/x509"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/client-go/tools/clientcmd"
)

func params() Params {
	return Params{NodeName: "n1", AdvertiseAddress: "192.0.2.2", ServiceIP: "10.96.0.1", DNSDomain: "cluster.local", Validity: time.Hour, CAValidity: 10 * time.Hour}
}

func TestCreate(t *testing.T) {
	now := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	s := &Store{Dir: t.TempDir(), Algorithm: "ECDSA-P256", Now: func() time.Time { return now }}
	made, err := s.Create(Plan(params()))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"ca", "apiserver", "apiserver-kubelet-client", "front-proxy-ca", "front-proxy-client", "etcd/ca", "etcd/server", "etcd/peer",
		"etcd/healthcheck-client", "apiserver-etcd-client", "sa",
	}
	if d := cmp.Diff(want, made); d != "" {
		t.Fatal(d)
	}
	ca, err := s.Load("ca")
	if err != nil {
		t.Fatal(err)
	}
	server, err := s.Load("apiserver")
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(ca.Cert)
	for _, name := range []string{"n1", "kubernetes.default.svc.cluster.local", "10.96.0.1", "192.0.2.2"} {
		if _, err := server.Cert.Verify(x509.VerifyOptions{Roots: pool, DNSName: name, CurrentTime: now}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got := server.Cert.NotAfter; !got.Equal(now.Add(time.Hour)) {
		t.Errorf("the serving certificate ends at %v", got)
	}
	info, err := os.Stat(filepath.Join(s.Dir, "ca.key"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode of ca.key: %v, %v", info.Mode(), err)
	}
	if made, err = s.Create(Plan(params())); err != nil || len(made) != 0 {
		t.Errorf("a second run made %v, %v", made, err)
	}
	p := params()
	p.AdvertiseAddress = "192.0.2.3"
	if _, err := s.Create(Plan(p)); err == nil {
		t.Error("a kept certificate without the address was accepted")
	}
}

func TestKubeconfigAndRenew(t *testing.T) {
	now := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	s := &Store{Dir: t.TempDir(), Algorithm: "ECDSA-P256", Now: func() time.Time { return now }}
	if _, err := s.Create(Plan(params())); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, k := range Kubeconfigs("n1") {
		if ok, err := s.WriteKubeconfig(dir, k, "kubernetes", "https://192.0.2.2:6443", Cert{Validity: time.Hour}, false); !ok || err != nil {
			t.Fatal(k.File, ok, err)
		}
	}
	cfg, err := clientcmd.LoadFromFile(filepath.Join(dir, "kubelet.conf"))
	if err != nil {
		t.Fatal(err)
	}
	cert, err := ParseCert(cfg.AuthInfos["system:node:n1"].ClientCertificateData)
	if err != nil {
		t.Fatal(err)
	}
	if cert.Subject.CommonName != "system:node:n1" || cert.Subject.Organization[0] != "system:nodes" {
		t.Errorf("subject %v", cert.Subject)
	}
	before, _ := s.Load("apiserver")
	now = now.Add(30 * time.Minute)
	if err := s.Renew(Plan(params())[1]); err != nil {
		t.Fatal(err)
	}
	after, err := s.Load("apiserver")
	if err != nil || !after.Cert.NotAfter.After(before.Cert.NotAfter) || AlgorithmOf(after.Cert) != "ECDSA-P256" {
		t.Errorf("renewed until %v, was %v, %v", after.Cert.NotAfter, before.Cert.NotAfter, err)
	}
}
