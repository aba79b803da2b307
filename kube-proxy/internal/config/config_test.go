package config

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func load(t *testing.T, file string, args ...string) (*Config, error) {
	t.Helper()
	if file != "" {
		path := filepath.Join(t.TempDir(), "c.yaml")
		if err := os.WriteFile(path, []byte("apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n"+file), 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, "--config", path)
	}
	return Load(args, io.Discard)
}

// TestKubeadm loads what kubeadm writes, in which unset fields are empty, null or zero.
func TestKubeadm(t *testing.T) {
	c, err := load(t, `
bindAddress: 0.0.0.0
bindAddressHardFail: false
clientConnection: {acceptContentTypes: "", burst: 0, contentType: "", kubeconfig: /k.conf, qps: 0}
clusterCIDR: 10.244.0.0/16
configSyncPeriod: 0s
conntrack: {maxPerCore: null, min: null, tcpBeLiberal: false, tcpCloseWaitTimeout: null, tcpEstablishedTimeout: null, udpStreamTimeout: 0s, udpTimeout: 0s}
detectLocal: {bridgeInterface: "", interfaceNamePrefix: ""}
detectLocalMode: ""
healthzBindAddress: ""
hostnameOverride: ""
iptables: {localhostNodePorts: null, masqueradeAll: false, masqueradeBit: null, minSyncPeriod: 0s, syncPeriod: 0s}
logging: {flushFrequency: 0, options: {json: {infoBufferSize: "0"}, text: {infoBufferSize: "0"}}, verbosity: 0}
metricsBindAddress: ""
mode: ""
nftables: {masqueradeAll: false, masqueradeBit: null, minSyncPeriod: 0s, syncPeriod: 0s}
nodePortAddresses: null
oomScoreAdj: null
`, "--hostname-override=Node-1")
	if err != nil {
		t.Fatal(err)
	}
	if c.Mode != NFTables || c.NodeName != "node-1" || c.SyncPeriod != 30*time.Second || c.MinSyncPeriod != time.Second ||
		c.Component.HealthzBindAddress != "0.0.0.0:10256" || c.Component.MetricsBindAddress != "127.0.0.1:10249" ||
		len(c.ClusterCIDRs) != 1 || !c.PrimaryOnly || c.MasqueradeMark != 0x4000 || c.Serving.AuthenticationKubeconfig != "/k.conf" {
		t.Errorf("%+v", c)
	}
}

func TestFlags(t *testing.T) {
	c, err := load(t, "mode: nftables\nmetricsBindAddress: 0.0.0.0", "--proxy-mode=iptables", "--metrics-port=9", "--nodeport-addresses=10.0.0.0/8", "--masquerade-all")
	if err != nil {
		t.Fatal(err)
	}
	if c.Mode != IPTables || c.Component.MetricsBindAddress != "0.0.0.0:9" || len(c.NodePorts) != 1 || c.PrimaryOnly || !c.MasqueradeAll {
		t.Errorf("%+v", c)
	}
}

func TestErrors(t *testing.T) {
	for name, c := range map[string]struct{ file, arg, want string }{
		"unknown flag": {arg: "--nope", want: "nope"},
		"unknown key":  {file: "clusterCIRD: x", want: "clusterCIRD"},
		"mode":         {file: "mode: ipvs", want: `"ipvs"`},
		"cidr":         {file: "clusterCIDR: 10.0.0.0", want: "clusterCIDR"},
		"bit":          {file: "iptables: {masqueradeBit: 32}", want: "iptables.masqueradeBit"},
		"negative bit": {file: "nftables: {masqueradeBit: -1}", want: "nftables.masqueradeBit"},
		"bridge":       {file: "detectLocalMode: BridgeInterface", want: "detectLocal.bridgeInterface"},
		"periods":      {file: "nftables: {syncPeriod: 1s, minSyncPeriod: 2s}", want: "nftables.minSyncPeriod"},
	} {
		t.Run(name, func(t *testing.T) {
			var args []string
			if c.arg != "" {
				args = append(args, c.arg)
			}
			_, err := load(t, c.file, args...)
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("error %v, want one line with %q", err, c.want)
			}
		})
	}
}

// TestEnvironment is how ctl's manifest says what upstream's kube-proxy would refuse as a flag.
func TestEnvironment(t *testing.T) {
	t.Setenv(PodNetworkVariable, "true")
	for flag, want := range map[string]bool{"--v=0": true, "--pod-network=false": false} {
		c, err := load(t, "clientConnection: {kubeconfig: /k.conf}\n", "--hostname-override=n1", flag)
		if err != nil {
			t.Fatal(err)
		}
		if c.PodNetwork != want || c.Serving.AuthenticationKubeconfig != "/k.conf" || c.Serving.AuthorizationKubeconfig != "/k.conf" {
			t.Errorf("%s: pod network %v, want %v; kubeconfigs %q, %q", flag, c.PodNetwork, want, c.Serving.AuthenticationKubeconfig, c.Serving.AuthorizationKubeconfig)
		}
	}
}
