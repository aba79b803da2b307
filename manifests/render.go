package manifests

import (
	"bytes"
	"embed"
	"fmt"
	"strings"
	"text/template"
)

//go:embed static-pods systemd addons bootstrap network monitoring
var files embed.FS

// Values are what the templates refer to.
type Values struct {
	// NodeName and AdvertiseAddress are of the machine that the file is for; BindPort is the API server's port.
	NodeName, AdvertiseAddress string
	BindPort                   int32
	// Endpoint is where clients reach the cluster, as host:port.
	Endpoint string
	// CertificatesDir is where the PKI is; EtcdDataDir, the embedded etcd's folder; EtcdServers, the external etcd's
	// URLs with commas, empty for the embedded one.
	CertificatesDir, EtcdDataDir                                string
	EtcdServers, EtcdCAFile, EtcdCertFile, EtcdKeyFile          string
	ClusterName, ServiceSubnet, PodSubnet, DNSDomain, ClusterIP string
	// Images by component name: kube-apiserver, …, coredns, pause.
	Images map[string]string
	// Resolver is whether the machine's name servers answer, so that CoreDNS can forward to them.
	Resolver bool
	// KubeletBinary is the path that the unit runs.
	KubeletBinary string
	// ProxyConfig is the KubeProxyConfiguration.
	ProxyConfig string
	// PodNetwork is whether kube-proxy routes between the nodes' pods: there is no network plugin that does.
	PodNetwork bool
	// PodCIDR is the node's part of the pod network.
	PodCIDR string
	// Containerd is the runtime's configuration.
	Containerd Containerd
}

// Containerd are the values of the runtime's configuration file.
type Containerd struct {
	Root, State, Address, CNIBin, SandboxImage string
	RestrictOOM, SystemdCgroup                 bool
}

// Render fills one template, named by its path in this folder.
func Render(name string, v Values) ([]byte, error) {
	text, err := files.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("manifest %s: %w", name, err)
	}
	t, err := template.New(name).Option("missingkey=error").Funcs(template.FuncMap{"indent": indent}).Parse(string(text))
	if err != nil {
		return nil, fmt.Errorf("manifest %s: %w", name, err)
	}
	var out bytes.Buffer
	if err := t.Execute(&out, v); err != nil {
		return nil, fmt.Errorf("manifest %s: %w", name, err)
	}
	return out.Bytes(), nil
}

func indent(n int, text string) string {
	pad := strings.Repeat(" ", n)
	return pad + strings.ReplaceAll(strings.TrimRight(text, "\n"), "\n", "\n"+pad)
}
