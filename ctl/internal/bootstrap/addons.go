package bootstrap

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	proxyconfig "k8s.io/kube-proxy/config/v1alpha1"
	"sigs.k8s.io/yaml"

	"flagship/ctl/internal/cluster"
	"flagship/ctl/internal/host"
	"flagship/ctl/internal/pki"
	"flagship/manifests"
)

func addCoreDNS(ctx context.Context, r *run) error {
	if r.docs.Cluster.DNS.Disabled {
		return nil
	}
	r.values.Resolver = host.ResolverAnswers(ctx, resolvConf())
	if !r.values.Resolver {
		r.say("addon/coredns", "no name server of %s answers: CoreDNS answers names outside of the cluster by NXDOMAIN", resolvConf())
	}
	return r.addon(ctx, "coredns", "addons/coredns.yaml")
}

func addKubeProxy(ctx context.Context, r *run) error {
	if r.docs.Cluster.Proxy.Disabled {
		return nil
	}
	text, err := yaml.Marshal(proxyConfig(r))
	if err != nil {
		return err
	}
	r.values.ProxyConfig = string(text)
	r.values.PodNetwork = r.docs.Cluster.Networking.PodSubnet != "" && len(host.OtherNetworks()) == 0
	return r.addon(ctx, "kube-proxy", "addons/kube-proxy.yaml")
}

// proxyConfig is the user's KubeProxyConfiguration with what the cluster says where the user did not.
func proxyConfig(r *run) map[string]any {
	out := map[string]any{}
	for k, v := range r.docs.Proxy {
		out[k] = v
	}
	out["apiVersion"], out["kind"] = proxyconfig.SchemeGroupVersion.String(), "KubeProxyConfiguration"
	set := func(key string, value any) {
		if _, ok := out[key]; !ok {
			out[key] = value
		}
	}
	set("bindAddress", "0.0.0.0")
	set("clusterCIDR", r.docs.Cluster.Networking.PodSubnet)
	conn, _ := out["clientConnection"].(map[string]any)
	if conn == nil {
		conn = map[string]any{}
	}
	if _, ok := conn["kubeconfig"]; !ok {
		conn["kubeconfig"] = "/var/lib/kube-proxy/kubeconfig.conf"
	}
	out["clientConnection"] = conn
	return out
}

func (r *run) addon(ctx context.Context, name, template string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	c, err := r.client(AdminConf)
	if err != nil {
		return err
	}
	text, err := manifests.Render(template, r.values)
	if err != nil {
		return err
	}
	if err := c.Apply(ctx, text); err != nil {
		return err
	}
	r.say("addon/"+name, "applied %s", name)
	return nil
}

// clusterInfo is the config map by which a machine that has only a token finds the cluster and its CA.
func clusterInfo(r *run) ([]byte, error) {
	ca, err := r.store().Load("ca")
	if err != nil {
		return nil, err
	}
	cfg := &clientcmdapi.Config{Clusters: map[string]*clientcmdapi.Cluster{
		"": {Server: "https://" + r.docs.Endpoint(), CertificateAuthorityData: pki.CertPEM(ca.Cert)},
	}}
	text, err := clientcmd.Write(*cfg)
	if err != nil {
		return nil, err
	}
	return cluster.ConfigMap(metav1.NamespacePublic, "cluster-info", map[string]string{"kubeconfig": string(text)})
}

// finalizeKubelet points kubelet.conf to the certificate that the kubelet rotates, once there is one.
func finalizeKubelet(_ context.Context, r *run) error {
	pem := filepath.Join(KubeletDir, "pki", "kubelet-client-current.pem")
	if _, err := os.Stat(pem); errors.Is(err, os.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	path := filepath.Join(KubernetesDir, "kubelet.conf")
	cfg, err := clientcmd.LoadFromFile(path)
	if err != nil {
		return err
	}
	for _, u := range cfg.AuthInfos {
		u.ClientCertificateData, u.ClientKeyData, u.ClientCertificate, u.ClientKey = nil, nil, pem, pem
	}
	r.say("kubelet-finalize", "%s now refers to the certificate that the kubelet rotates", path)
	return pki.WriteConfig(path, cfg)
}

// configureNetwork waits for the node's part of the pod network and tells the CNI plugins.
func configureNetwork(ctx context.Context, r *run) error {
	if r.docs.Cluster.Networking.PodSubnet == "" {
		return nil
	}
	c, err := r.client(AdminConf)
	if err != nil {
		return err
	}
	return r.network(ctx, c, r.docs.Init.NodeRegistration.Name)
}

func (r *run) network(ctx context.Context, c *cluster.Client, node string) error {
	if others := host.OtherNetworks(); len(others) > 0 {
		r.say("network", "left alone: %v configures it", others)
		return nil
	}
	var cidr string
	err := r.wait(ctx, "network", "the pod addresses of node "+node+", which kube-controller-manager allocates", 2*time.Minute, func(ctx context.Context) (bool, string) {
		n, err := c.Typed.CoreV1().Nodes().Get(ctx, node, metav1.GetOptions{})
		if err != nil {
			return false, err.Error()
		}
		cidr = n.Spec.PodCIDR
		return cidr != "", "spec.podCIDR is empty"
	})
	if err != nil {
		return err
	}
	if err := host.ConfigureNetwork(r.state, cidr); err != nil {
		return err
	}
	r.say("network", "pods of this node have addresses of %s (CNI bridge %s)", cidr, host.Bridge)
	return nil
}

// finish prints the summary and the next commands.
func (r *run) finish() {
	fmt.Fprintf(r.Out, "\nThe control plane is up after %.0f s.\n\nNext:\n  ctl get pods -A        what runs (root; ctl is every kubectl command too)\n  ctl components         the components, their health and leaders\n", time.Since(r.started).Seconds())
	fmt.Fprintf(r.Out, "  mkdir -p $HOME/.kube && cp %s $HOME/.kube/config    for another user or a stock kubectl\n", AdminConf)
	if ca, err := r.store().Load("ca"); err == nil && !r.skipTokenPrint && len(r.docs.Init.BootstrapTokens) > 0 {
		fmt.Fprintf(r.Out, "\nTo add a machine, run on it:\n  ctl join %s --token %s --discovery-token-ca-cert-hash %s\n", r.docs.Endpoint(), r.docs.Init.BootstrapTokens[0].Token, pki.PublicKeyHash(ca.Cert))
	}
}
