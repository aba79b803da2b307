package bootstrap

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

	"flagship/ctl/internal/cluster"
	"flagship/ctl/internal/host"
	"flagship/ctl/internal/pki"
	"flagship/ctl/internal/preflight"
	"flagship/ctl/internal/spec"
	"flagship/manifests"
)

// initPhases are kubeadm's, in its order.
func initPhases() []phase {
	return []phase{
		{"preflight", "look for what would keep the machine from being a node", initPreflight},
		{"runtime", "start the container runtime and load the images", ensureRuntime},
		{"certs", "make the certificates", makeCerts},
		{"kubeconfig", "make the kubeconfigs", makeKubeconfigs},
		{"control-plane", "write the static pods of the control plane", writeStaticPods},
		{"kubelet-start", "write the kubelet's settings and start it", startKubelet},
		{"wait-control-plane", "wait until the control plane serves", waitControlPlane},
		{"upload-config", "store the configuration in the cluster", uploadConfig},
		{"mark-control-plane", "label and taint the node", markControlPlane},
		{"bootstrap-token", "make the token and the rights by which nodes join", bootstrapToken},
		{"kubelet-finalize", "let the kubelet use its own certificate", finalizeKubelet},
		{"addon/coredns", "install CoreDNS", addCoreDNS},
		{"addon/kube-proxy", "install kube-proxy", addKubeProxy},
		{"network", "configure this node's part of the pod network", configureNetwork},
	}
}

// Init makes the machine a cluster's first node. only selects phases, nil all.
func Init(ctx context.Context, d Deps, docs *spec.Documents, only []string, skipTokenPrint bool) error {
	state, err := host.LoadState()
	if err != nil {
		return err
	}
	r := &run{Deps: d, docs: docs, state: state, started: time.Now(), skipTokenPrint: skipTokenPrint}
	r.values = r.render()
	if err := r.phases(ctx, initPhases(), docs.Init.SkipPhases, only); err != nil {
		return err
	}
	if len(only) == 0 {
		r.finish()
	}
	return nil
}

// PhaseNames lists the phases of init with what each does.
func PhaseNames() [][2]string {
	var out [][2]string
	for _, p := range initPhases() {
		out = append(out, [2]string{p.name, p.what})
	}
	return out
}

func (r *run) render() manifests.Values {
	i, c := &r.docs.Init, &r.docs.Cluster
	v := manifests.Values{
		NodeName: i.NodeRegistration.Name, AdvertiseAddress: i.LocalAPIEndpoint.AdvertiseAddress, BindPort: i.LocalAPIEndpoint.BindPort,
		Endpoint: r.docs.Endpoint(), CertificatesDir: c.CertificatesDir, ClusterName: c.ClusterName,
		ServiceSubnet: c.Networking.ServiceSubnet, PodSubnet: c.Networking.PodSubnet, DNSDomain: c.Networking.DNSDomain,
		ClusterIP: r.docs.ServiceIP(10), Images: r.docs.Images(),
	}
	if l := c.Etcd.Local; l != nil {
		v.EtcdDataDir = l.DataDir
	}
	if e := c.Etcd.External; e != nil {
		v.EtcdServers, v.EtcdCAFile, v.EtcdCertFile, v.EtcdKeyFile = strings.Join(e.Endpoints, ","), e.CAFile, e.CertFile, e.KeyFile
	}
	return v
}

func initPreflight(ctx context.Context, r *run) error {
	i, c := &r.docs.Init, &r.docs.Cluster
	q := preflight.Query{
		Socket: i.NodeRegistration.CRISocket, ControlPlane: true,
		Ports: preflight.Ports(true, int(i.LocalAPIEndpoint.BindPort), c.Etcd.Local != nil),
	}
	if c.Etcd.Local != nil {
		q.EtcdDir = c.Etcd.Local.DataDir
	}
	for _, image := range r.values.Images {
		q.Images = append(q.Images, image)
	}
	return r.preflight(ctx, q, preflight.Want{
		AdvertiseAddress: i.LocalAPIEndpoint.AdvertiseAddress, ControlPlane: true,
		Subnets: []string{c.Networking.PodSubnet, c.Networking.ServiceSubnet},
	}, i.NodeRegistration.IgnorePreflightErrors)
}

// preflight prints every finding and fails where one is fatal. It writes nothing to the machine.
func (r *run) preflight(ctx context.Context, q preflight.Query, w preflight.Want, ignore []string) error {
	r.say("preflight", "looking for what would keep this machine from being a node")
	facts, err := preflight.Gather(ctx, q)
	if err != nil {
		return err
	}
	all := preflight.Plan(facts, w)
	fatal := preflight.Fatal(all, ignore)
	for _, f := range all {
		kind := "WARNING"
		for _, x := range fatal {
			if x == f {
				kind = "ERROR"
			}
		}
		fmt.Fprintf(r.Out, "\t[%s %s]: %s\n", kind, f.Name, f.Problem)
		if f.Fix != "" {
			fmt.Fprintf(r.Out, "\t\tfix: %s\n", f.Fix)
		}
	}
	if len(fatal) > 0 {
		return fmt.Errorf("%d problems, nothing was changed; mend them, or leave them out by --ignore-preflight-errors=NAME,…", len(fatal))
	}
	r.kubelet = facts.Kubelet
	return nil
}

func ensureRuntime(ctx context.Context, r *run) error {
	return r.ensureRuntime(ctx, r.docs.Init.NodeRegistration.CRISocket, r.values.Images, r.docs.Init.NodeRegistration.ImagePullPolicy)
}

func makeCerts(_ context.Context, r *run) error {
	c := &r.docs.Cluster
	plan := pki.Plan(r.certParams())
	made, err := r.store().Create(plan)
	if err != nil {
		return err
	}
	if len(made) == 0 {
		r.say("certs", "all certificates are in %s already", c.CertificatesDir)
		return nil
	}
	r.say("certs", "wrote to %s: %s", c.CertificatesDir, strings.Join(made, ", "))
	return nil
}

func (r *run) certParams() pki.Params {
	i, c := &r.docs.Init, &r.docs.Cluster
	p := pki.Params{
		NodeName: i.NodeRegistration.Name, AdvertiseAddress: i.LocalAPIEndpoint.AdvertiseAddress,
		ServiceIP: r.docs.ServiceIP(1), DNSDomain: c.Networking.DNSDomain, ExtraSANs: c.APIServer.CertSANs,
		ExternalEtcd: c.Etcd.External != nil, Validity: c.CertificateValidityPeriod.Duration, CAValidity: c.CACertificateValidityPeriod.Duration,
	}
	if c.ControlPlaneEndpoint != "" {
		p.EndpointHost, _, _ = net.SplitHostPort(r.docs.Endpoint())
	}
	if l := c.Etcd.Local; l != nil {
		p.EtcdServerSANs, p.EtcdPeerSANs = l.ServerCertSANs, l.PeerCertSANs
	}
	return p
}

func makeKubeconfigs(_ context.Context, r *run) error {
	c := &r.docs.Cluster
	var made []string
	for _, k := range pki.Kubeconfigs(r.docs.Init.NodeRegistration.Name) {
		server := "https://" + r.docs.Endpoint()
		if k.Local {
			server = "https://" + r.docs.LocalEndpoint()
		}
		ok, err := r.store().WriteKubeconfig(KubernetesDir, k, c.ClusterName, server, pki.Cert{Validity: c.CertificateValidityPeriod.Duration}, false)
		if err != nil {
			return err
		}
		if ok {
			made = append(made, k.File)
		}
	}
	r.say("kubeconfig", "wrote to %s: %s", KubernetesDir, strings.Join(made, ", "))
	return nil
}

func writeStaticPods(_ context.Context, r *run) error {
	if err := os.MkdirAll(ManifestsDir, 0o700); err != nil {
		return err
	}
	if l := r.docs.Cluster.Etcd.Local; l != nil {
		if err := os.MkdirAll(l.DataDir, 0o700); err != nil {
			return err
		}
	}
	for _, name := range []string{"kube-apiserver", "kube-controller-manager", "kube-scheduler"} {
		pod, err := staticPod(name, r.docs, r.values)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(ManifestsDir, name+".yaml"), pod, 0o600); err != nil {
			return err
		}
	}
	r.say("control-plane", "wrote kube-apiserver, kube-controller-manager and kube-scheduler to %s (etcd runs inside kube-apiserver)", ManifestsDir)
	return nil
}

func startKubelet(ctx context.Context, r *run) error {
	full := kubeletConfig(r.docs)
	return r.startKubelet(ctx, full, &r.docs.Init.NodeRegistration, true)
}

func waitControlPlane(ctx context.Context, r *run) error {
	limit := timeout(r.docs.Init.Timeouts, func(t *spec.Timeouts) time.Duration { return duration(t.ControlPlaneComponentHealthCheck) }, 4*time.Minute)
	r.say("wait-control-plane", "waiting for the kubelet to start the static pods in %s", ManifestsDir)
	for _, c := range []struct{ name, url string }{
		{"kubelet", "http://127.0.0.1:10248/healthz"},
		{"kube-apiserver", "https://" + r.docs.LocalEndpoint() + "/readyz"},
		{"kube-controller-manager", "https://127.0.0.1:10257/healthz"},
		{"kube-scheduler", "https://127.0.0.1:10259/livez"},
	} {
		start := time.Now()
		if err := r.wait(ctx, "wait-control-plane", c.name, limit, func(ctx context.Context) (bool, string) { return healthy(ctx, c.url) }); err != nil {
			return fmt.Errorf("%w\n\tthe kubelet's log: %s\n\tthe containers' logs: /var/log/pods", err, r.kubeletLog())
		}
		r.say("wait-control-plane", "%s is healthy after %.1f s", c.name, time.Since(start).Seconds())
	}
	c, err := r.client(superConf)
	if err != nil {
		return err
	}
	text, err := manifests.Render("bootstrap/cluster-admins.yaml", r.values)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	return c.Apply(ctx, text)
}

func (r *run) kubeletLog() string {
	if host.Systemd() {
		return "journalctl -u kubelet"
	}
	return host.LogFile("kubelet")
}

// healthy asks a health endpoint. Its certificate is not verified: nothing is sent to it, and what it answers is only
// whether to wait on.
func healthy(ctx context.Context, url string) (bool, string) {
	client := http.Client{Timeout: 3 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return false, err.Error()
	}
	resp, err := client.Do(req)
	if err != nil {
		return false, err.Error()
	}
	_ = resp.Body.Close()
	return resp.StatusCode == http.StatusOK, resp.Status
}

func uploadConfig(ctx context.Context, r *run) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	c, err := r.client(AdminConf)
	if err != nil {
		return err
	}
	text, err := yaml.Marshal(r.docs.Cluster)
	if err != nil {
		return err
	}
	kubelet, err := yaml.Marshal(kubeletConfig(r.docs))
	if err != nil {
		return err
	}
	for name, data := range map[string]map[string]string{
		"kubeadm-config": {"ClusterConfiguration": string(text)}, "kubelet-config": {"kubelet": string(kubelet)},
	} {
		cm, err := cluster.ConfigMap(metav1.NamespaceSystem, name, data)
		if err != nil {
			return err
		}
		if err := c.Apply(ctx, cm); err != nil {
			return err
		}
	}
	rights, err := manifests.Render("bootstrap/config-readers.yaml", r.values)
	if err != nil {
		return err
	}
	if err := c.Apply(ctx, rights); err != nil {
		return err
	}
	r.say("upload-config", "stored the configuration in the config maps kubeadm-config and kubelet-config of kube-system")
	return nil
}

func markControlPlane(ctx context.Context, r *run) error {
	c, err := r.client(AdminConf)
	if err != nil {
		return err
	}
	node := r.docs.Init.NodeRegistration.Name
	err = r.wait(ctx, "mark-control-plane", "node "+node, 2*time.Minute, func(ctx context.Context) (bool, string) {
		_, err := c.Typed.CoreV1().Nodes().Get(ctx, node, metav1.GetOptions{})
		return err == nil, fmt.Sprint(err)
	})
	if err != nil {
		return fmt.Errorf("%w (the kubelet registers it; its log: %s)", err, r.kubeletLog())
	}
	labels := `{"metadata":{"labels":{"node-role.kubernetes.io/control-plane":"","node.kubernetes.io/exclude-from-external-load-balancers":""}}}`
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	return cluster.Retry(ctx, func() error {
		if _, err := c.Typed.CoreV1().Nodes().Patch(ctx, node, types.StrategicMergePatchType, []byte(labels), metav1.PatchOptions{}); err != nil {
			return err
		}
		n, err := c.Typed.CoreV1().Nodes().Get(ctx, node, metav1.GetOptions{})
		if err != nil {
			return err
		}
		added := 0
		for _, t := range r.docs.Init.NodeRegistration.Taints {
			if !hasTaint(n.Spec.Taints, t) {
				n.Spec.Taints, added = append(n.Spec.Taints, t), added+1
			}
		}
		if added > 0 {
			if _, err = c.Typed.CoreV1().Nodes().Update(ctx, n, metav1.UpdateOptions{}); err != nil {
				return err
			}
		}
		r.say("mark-control-plane", "node %s has the label node-role.kubernetes.io/control-plane and %d taints", node, len(r.docs.Init.NodeRegistration.Taints))
		return nil
	})
}

func hasTaint(all []corev1.Taint, t corev1.Taint) bool {
	for _, o := range all {
		if o.Key == t.Key && o.Effect == t.Effect {
			return true
		}
	}
	return false
}

func bootstrapToken(ctx context.Context, r *run) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	c, err := r.client(AdminConf)
	if err != nil {
		return err
	}
	for _, t := range r.docs.Init.BootstrapTokens {
		if err := c.CreateToken(ctx, t, r.Now()); err != nil {
			return fmt.Errorf("create token: %w", err)
		}
	}
	rights, err := manifests.Render("bootstrap/tokens.yaml", r.values)
	if err != nil {
		return err
	}
	if err := c.Apply(ctx, rights); err != nil {
		return err
	}
	info, err := clusterInfo(r)
	if err != nil {
		return err
	}
	if err := c.Apply(ctx, info); err != nil {
		return err
	}
	r.say("bootstrap-token", "made the token by which nodes join, its rights, and the config map cluster-info in kube-public")
	return nil
}

func duration(d *metav1.Duration) time.Duration {
	if d == nil {
		return 0
	}
	return d.Duration
}
