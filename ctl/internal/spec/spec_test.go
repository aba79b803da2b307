package spec

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const token = "abcdef.0123456789abcdef"

func write(t *testing.T, text string) string {
	t.Helper()
	p := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestLoadRefuses(t *testing.T) {
	for name, tc := range map[string]struct{ text, want string }{
		"unknown key":         {"apiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\nnetworking: {podSubnett: x}\n", `unknown field "podSubnett"`},
		"unknown kubelet key": {"apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\nmaxPodz: 3\n", `unknown field "maxPodz"`},
		"unknown kind":        {"apiVersion: kubeadm.k8s.io/v1beta4\nkind: Cluster\n", `kind "Cluster" of "kubeadm.k8s.io/v1beta4" is not known here`},
		"old version":         {"apiVersion: kubeadm.k8s.io/v1beta3\nkind: InitConfiguration\n", `of "kubeadm.k8s.io/v1beta3" is not known here`},
		"second document":     {"apiVersion: kubeadm.k8s.io/v1beta4\nkind: InitConfiguration\n---\napiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\nx: 1\n", `document 2`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Load(write(t, tc.text))
			if err == nil || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "\n") {
				t.Fatalf("error %v, want one line with %s", err, tc.want)
			}
		})
	}
}

func complete(t *testing.T, d *Documents, f Flags) error {
	t.Helper()
	return d.Complete(f, Machine{Hostname: "n1", Address: "192.0.2.2"}, time.Time{}, func() string { return token })
}

func TestDefaults(t *testing.T) {
	d := &Documents{}
	if err := complete(t, d, Flags{}); err != nil {
		t.Fatal(err)
	}
	got := []string{
		d.Endpoint(), d.LocalEndpoint(), d.ServiceIP(1), d.ServiceIP(10), d.Init.NodeRegistration.Name, d.Cluster.Networking.PodSubnet,
		d.Cluster.Etcd.Local.DataDir, d.Init.NodeRegistration.Taints[0].Key, d.Init.BootstrapTokens[0].Token,
		d.Init.BootstrapTokens[0].TTL.Duration.String(), d.Images()["kube-apiserver"], d.Images()["coredns"],
	}
	want := []string{
		"192.0.2.2:6443", "192.0.2.2:6443", "10.96.0.1", "10.96.0.10", "n1", "10.244.0.0/16", "/var/lib/etcd",
		"node-role.kubernetes.io/control-plane", token, "24h0m0s", "registry.k8s.io/kube-apiserver:v1.37.2", "registry.k8s.io/coredns/coredns:v1.15.0",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Fatal(d)
	}
}

func TestFlagsWinOverFile(t *testing.T) {
	d, err := Load(write(t, "apiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\ncontrolPlaneEndpoint: cp.example\nnetworking: {serviceSubnet: 10.9.0.0/16}\n"))
	if err != nil {
		t.Fatal(err)
	}
	if err := complete(t, d, Flags{ServiceSubnet: "10.8.0.0/16", Schedulable: true, BindPort: 7443}); err != nil {
		t.Fatal(err)
	}
	if d.Endpoint() != "cp.example:7443" || d.ServiceIP(1) != "10.8.0.1" || len(d.Init.NodeRegistration.Taints) != 0 {
		t.Fatalf("endpoint %s, first service %s, taints %v", d.Endpoint(), d.ServiceIP(1), d.Init.NodeRegistration.Taints)
	}
}

func TestValidateNamesEveryProblem(t *testing.T) {
	d := &Documents{}
	err := complete(t, d, Flags{Token: "short", ServiceSubnet: "10.96.0.1/12", DNSDomain: "a_b", Version: "v1.30.0", NodeName: "-x"})
	for _, want := range []string{"bootstrap token \"short\"", "10.96.0.0/12 is meant", "networking.dnsDomain", "kubernetesVersion: \"v1.30.0\"", "nodeRegistration.name"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v lacks %s", err, want)
		}
	}
}

func TestJoinNeedsAHash(t *testing.T) {
	j := &JoinConfiguration{Discovery: Discovery{BootstrapToken: &TokenDiscovery{Token: token, APIServerEndpoint: "192.0.2.2:6443"}}}
	err := j.Complete("", "", nil, nil, Machine{Hostname: "n2"})
	if err == nil || !strings.Contains(err.Error(), "--discovery-token-ca-cert-hash") {
		t.Fatalf("error %v", err)
	}
	j.Discovery.BootstrapToken.UnsafeSkipCAVerification = true
	if err := j.Complete("", "", nil, nil, Machine{Hostname: "n2"}); err != nil {
		t.Fatal(err)
	}
}
