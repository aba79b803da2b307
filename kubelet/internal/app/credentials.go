package app

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"time"

	"go.uber.org/zap"
	certificatesv1 "k8s.io/api/certificates/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"flagship/internal/kube"
	"flagship/kubelet/internal/node"
)

func (k *kubelet) clientStore() node.Store {
	return node.Store{Dir: k.cfg.CertDir, Prefix: "kubelet-client"}
}

func (k *kubelet) servingStore() node.Store {
	return node.Store{Dir: k.cfg.CertDir, Prefix: "kubelet-server"}
}

// credentials reads the kubeconfig, after making it with the bootstrap one where it is not there yet or has expired.
func (k *kubelet) credentials(ctx context.Context) (*rest.Config, error) {
	if k.cfg.BootstrapKubeconfig != "" && !k.usable() {
		if err := k.bootstrap(ctx); err != nil {
			return nil, err
		}
	}
	rc, err := k.load(k.cfg.Kubeconfig)
	if err != nil {
		return nil, err
	}
	if k.cfg.RotateCertificates && rc.CertFile == k.clientStore().Current() {
		// The transport reads certificate files again when they change; the kit's configuration keeps their paths.
		k.log.Info("client certificate is rotated", zap.String("file", rc.CertFile))
	}
	return rc, nil
}

func (k *kubelet) load(path string) (*rest.Config, error) {
	return kube.Load(kube.Config{
		Kubeconfig: path, UserAgent: "kubelet", QPS: float32(*k.cfg.KubeAPIQPS), Burst: int(k.cfg.KubeAPIBurst), ContentType: k.cfg.ContentType,
	})
}

// usable reports a kubeconfig whose client certificate, if it has one, is valid now.
func (k *kubelet) usable() bool {
	rc, err := clientcmd.BuildConfigFromFlags("", k.cfg.Kubeconfig)
	if err != nil {
		return false
	}
	var pair tls.Certificate
	switch {
	case rc.CertFile != "":
		pair, err = tls.LoadX509KeyPair(rc.CertFile, rc.KeyFile)
	case len(rc.CertData) > 0:
		pair, err = tls.X509KeyPair(rc.CertData, rc.KeyData)
	default:
		return true
	}
	if err != nil {
		return false
	}
	leaf, err := x509.ParseCertificate(pair.Certificate[0])
	return err == nil && time.Now().Before(leaf.NotAfter)
}

// bootstrap asks for a client certificate with the bootstrap credentials and writes the kubeconfig.
func (k *kubelet) bootstrap(ctx context.Context) error {
	k.log.Info("asking for a client certificate", zap.String("bootstrapKubeconfig", k.cfg.BootstrapKubeconfig))
	rc, err := k.load(k.cfg.BootstrapKubeconfig)
	if err != nil {
		return err
	}
	c, err := kube.NewClient(rc, node.Kinds)
	if err != nil {
		return err
	}
	if err := c.Verify(); err != nil {
		return fmt.Errorf("--bootstrap-kubeconfig: %w", err)
	}
	for {
		data, err := node.Request(ctx, c, node.CertRequest{Node: k.name, Signer: certificatesv1.KubeAPIServerClientKubeletSignerName})
		if err == nil {
			if err = k.clientStore().Save(data); err != nil {
				return err
			}
			break
		}
		k.log.Warn("bootstrap", zap.Error(err))
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(2 * time.Second):
		}
	}
	cur := k.clientStore().Current()
	out := clientcmdapi.Config{
		Clusters: map[string]*clientcmdapi.Cluster{"default-cluster": {
			Server: rc.Host, InsecureSkipTLSVerify: rc.Insecure, CertificateAuthority: rc.CAFile, CertificateAuthorityData: rc.CAData, TLSServerName: rc.ServerName,
		}},
		AuthInfos:      map[string]*clientcmdapi.AuthInfo{"default-auth": {ClientCertificate: cur, ClientKey: cur}},
		Contexts:       map[string]*clientcmdapi.Context{"default-context": {Cluster: "default-cluster", AuthInfo: "default-auth", Namespace: "default"}},
		CurrentContext: "default-context",
	}
	if err := clientcmd.WriteToFile(out, k.cfg.Kubeconfig); err != nil {
		return fmt.Errorf("write %s: %w", k.cfg.Kubeconfig, err)
	}
	return os.Chmod(k.cfg.Kubeconfig, 0o600)
}

// rotateCertificates renews the client certificate, and the serving one where the cluster signs it, until ctx ends.
func (k *kubelet) rotateCertificates(ctx context.Context) error {
	share := rand.Float64()
	tick := time.NewTicker(10 * time.Second)
	defer tick.Stop()
	retry := time.Time{}
	for {
		if time.Now().After(retry) {
			if err := k.renewDue(ctx, share); err != nil && ctx.Err() == nil {
				k.log.Warn("renew certificate", zap.Error(err))
				retry = time.Now().Add(time.Minute)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (k *kubelet) renewDue(ctx context.Context, share float64) error {
	if cur, err := k.clientStore().Load(); err == nil && k.cfg.RotateCertificates && time.Now().After(node.Due(cur.Leaf, share)) {
		data, err := node.Request(ctx, k.client, node.CertRequest{Node: k.name, Signer: certificatesv1.KubeAPIServerClientKubeletSignerName})
		if err != nil {
			return err
		}
		if err := k.clientStore().Save(data); err != nil {
			return err
		}
		k.log.Info("client certificate renewed")
	}
	if !k.cfg.ServerTLSBootstrap || k.api.NodeUID() == "" {
		return nil
	}
	if cur, err := k.servingStore().Load(); err == nil && time.Now().Before(node.Due(cur.Leaf, share)) {
		return nil
	}
	req := node.CertRequest{Node: k.name, Signer: certificatesv1.KubeletServingSignerName, Names: []string{k.name}}
	for _, ip := range k.ips {
		req.IPs = append(req.IPs, net.ParseIP(ip))
	}
	data, err := node.Request(ctx, k.client, req)
	if err != nil {
		return err
	}
	k.log.Info("serving certificate signed by the cluster")
	return k.servingStore().Save(data)
}
