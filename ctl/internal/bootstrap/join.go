package bootstrap

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"sigs.k8s.io/yaml"

	"flagship/ctl/internal/cluster"
	"flagship/ctl/internal/host"
	"flagship/ctl/internal/pki"
	"flagship/ctl/internal/preflight"
	"flagship/ctl/internal/spec"
)

func joinPhases() []phase {
	return []phase{
		{"preflight", "look for what would keep the machine from being a node", joinPreflight},
		{"discovery", "find the cluster and come to trust it", discover},
		{"runtime", "start the container runtime and load the images", joinRuntime},
		{"kubelet-start", "write the kubelet's settings, start it, and wait for its certificate", joinKubelet},
		{"network", "configure this node's part of the pod network", joinNetwork},
	}
}

// Join makes the machine a worker of a cluster.
func Join(ctx context.Context, d Deps, docs *spec.Documents) error {
	state, err := host.LoadState()
	if err != nil {
		return err
	}
	r := &run{Deps: d, docs: docs, join: &docs.Join, state: state, started: time.Now()}
	if err := r.phases(ctx, joinPhases(), docs.Join.SkipPhases, nil); err != nil {
		return err
	}
	fmt.Fprintf(r.Out, "\nThis machine is node %s after %.0f s.\nNext, on the control plane: ctl get nodes\n", docs.Join.NodeRegistration.Name, time.Since(r.started).Seconds())
	return nil
}

func joinPreflight(ctx context.Context, r *run) error {
	reg := &r.join.NodeRegistration
	return r.preflight(ctx, preflight.Query{Socket: reg.CRISocket, Ports: preflight.Ports(false, 0, false)}, preflight.Want{}, reg.IgnorePreflightErrors)
}

// discover finds the cluster's address and CA, and its configuration.
func discover(ctx context.Context, r *run) error {
	ctx, cancel := context.WithTimeout(ctx, timeout(r.join.Timeouts, func(t *spec.Timeouts) time.Duration { return duration(t.Discovery) }, 5*time.Minute))
	defer cancel()
	info, err := r.clusterInfo(ctx)
	if err != nil {
		return err
	}
	r.say("discovery", "the cluster is at %s", info.Server)
	if err := host.WriteFile(r.join.CACertPath, info.CertificateAuthorityData, 0o644); err != nil {
		return err
	}
	user := "tls-bootstrap-token-user"
	cfg := pki.NewKubeconfig("kubernetes", info.Server, user, info.CertificateAuthorityData)
	cfg.AuthInfos[user] = &clientcmdapi.AuthInfo{Token: r.join.Discovery.TLSBootstrapToken}
	path := filepath.Join(KubernetesDir, "bootstrap-kubelet.conf")
	if err := pki.WriteConfig(path, cfg); err != nil {
		return err
	}
	c, err := cluster.New(path, "")
	if err != nil {
		return err
	}
	return r.readCluster(ctx, c)
}

// readCluster reads the configuration that init stored.
func (r *run) readCluster(ctx context.Context, c *cluster.Client) error {
	for name, into := range map[string]struct {
		key string
		to  any
	}{"kubeadm-config": {"ClusterConfiguration", &r.docs.Cluster}, "kubelet-config": {"kubelet", &r.docs.Kubelet}} {
		cm, err := c.Typed.CoreV1().ConfigMaps(metav1.NamespaceSystem).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return fmt.Errorf("read config map %s: %w", name, err)
		}
		if err := yaml.Unmarshal([]byte(cm.Data[into.key]), into.to); err != nil {
			return fmt.Errorf("config map %s: %w", name, err)
		}
	}
	return nil
}

// clusterInfo finds the cluster by a file, or by the config map cluster-info, whose signature by the token and whose CA
// by the given hash prove it.
func (r *run) clusterInfo(ctx context.Context) (*clientcmdapi.Cluster, error) {
	if f := r.join.Discovery.File; f != nil {
		cfg, err := clientcmd.LoadFromFile(strings.TrimPrefix(f.KubeConfigPath, "file://"))
		if err != nil {
			return nil, err
		}
		return onlyCluster(cfg)
	}
	t := r.join.Discovery.BootstrapToken
	id, _, _ := strings.Cut(t.Token, ".")
	var text string
	// Nothing is believed of this answer before the signature and the hash are checked.
	c, err := cluster.FromConfig(&rest.Config{Host: "https://" + t.APIServerEndpoint, TLSClientConfig: rest.TLSClientConfig{Insecure: true}, Timeout: 10 * time.Second})
	if err != nil {
		return nil, err
	}
	err = r.wait(ctx, "discovery", "cluster-info signed by token "+id, 5*time.Minute, func(ctx context.Context) (bool, string) {
		cm, err := c.Typed.CoreV1().ConfigMaps(metav1.NamespacePublic).Get(ctx, "cluster-info", metav1.GetOptions{})
		if err != nil {
			return false, err.Error()
		}
		text = cm.Data["kubeconfig"]
		jws := cm.Data["jws-kubeconfig-"+id]
		if jws == "" {
			return false, "it has no signature by this token; is the token right, and not expired?"
		}
		if err := verifyJWS(jws, text, t.Token); err != nil {
			return false, err.Error()
		}
		return true, ""
	})
	if err != nil {
		return nil, err
	}
	cfg, err := clientcmd.Load([]byte(text))
	if err != nil {
		return nil, err
	}
	info, err := onlyCluster(cfg)
	if err != nil {
		return nil, err
	}
	if t.UnsafeSkipCAVerification {
		return info, nil
	}
	if err := pinned(info.CertificateAuthorityData, t.CACertHashes); err != nil {
		return nil, err
	}
	return info, r.sameCluster(ctx, t.APIServerEndpoint, info, text)
}

// sameCluster reads cluster-info again, now with the CA verified, so that what is used came from who has the CA's key.
func (r *run) sameCluster(ctx context.Context, endpoint string, info *clientcmdapi.Cluster, text string) error {
	c, err := cluster.FromConfig(&rest.Config{Host: "https://" + endpoint, TLSClientConfig: rest.TLSClientConfig{CAData: info.CertificateAuthorityData}, Timeout: 10 * time.Second})
	if err != nil {
		return err
	}
	cm, err := c.Typed.CoreV1().ConfigMaps(metav1.NamespacePublic).Get(ctx, "cluster-info", metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("read cluster-info with the cluster's CA: %w", err)
	}
	if cm.Data["kubeconfig"] != text {
		return errors.New("cluster-info differs between two readings")
	}
	return nil
}

func onlyCluster(cfg *clientcmdapi.Config) (*clientcmdapi.Cluster, error) {
	for _, c := range cfg.Clusters {
		if len(c.CertificateAuthorityData) == 0 && c.CertificateAuthority != "" {
			data, err := os.ReadFile(c.CertificateAuthority)
			if err != nil {
				return nil, err
			}
			c.CertificateAuthorityData = data
		}
		return c, nil
	}
	return nil, errors.New("the discovery kubeconfig names no cluster")
}

// pinned checks that a CA of the bundle has one of the hashes.
func pinned(bundle []byte, hashes []string) error {
	cert, err := pki.ParseCert(bytes.TrimSpace(bundle))
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(hashes, func(h string) bool { return strings.EqualFold(h, pki.PublicKeyHash(cert)) }) {
		return fmt.Errorf("the cluster's CA has the hash %s, which is none of the given %v", pki.PublicKeyHash(cert), hashes)
	}
	return nil
}

func joinRuntime(ctx context.Context, r *run) error {
	all := spec.ImagesOf(&r.docs.Cluster)
	images := map[string]string{"pause": all["pause"], "kube-proxy": all["kube-proxy"], "coredns": all["coredns"]}
	return r.ensureRuntime(ctx, r.join.NodeRegistration.CRISocket, images, r.join.NodeRegistration.ImagePullPolicy)
}

func joinKubelet(ctx context.Context, r *run) error {
	if err := os.MkdirAll(ManifestsDir, 0o700); err != nil {
		return err
	}
	full := maps.Clone(r.docs.Kubelet)
	if err := r.startKubelet(ctx, full, &r.join.NodeRegistration, true); err != nil {
		return err
	}
	limit := timeout(r.join.Timeouts, func(t *spec.Timeouts) time.Duration { return duration(t.TLSBootstrap) }, 5*time.Minute)
	conf := filepath.Join(KubernetesDir, "kubelet.conf")
	err := r.wait(ctx, "kubelet-start", "the kubelet's certificate", limit, func(context.Context) (bool, string) {
		_, err := os.Stat(conf)
		return err == nil, "its signing request is not yet approved"
	})
	if err != nil {
		return fmt.Errorf("%w (the kubelet's log: %s)", err, r.kubeletLog())
	}
	_ = os.Remove(filepath.Join(KubernetesDir, "bootstrap-kubelet.conf"))
	return nil
}

func joinNetwork(ctx context.Context, r *run) error {
	if r.docs.Cluster.Networking.PodSubnet == "" {
		return nil
	}
	c, err := cluster.New(filepath.Join(KubernetesDir, "kubelet.conf"), "")
	if err != nil {
		return err
	}
	return r.network(ctx, c, r.join.NodeRegistration.Name)
}
