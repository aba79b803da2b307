package app

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"flagship/ctl/internal/bootstrap"
	"flagship/ctl/internal/spec"
)

func joinCommand() *cobra.Command {
	var file, node, socket, token, discoveryToken, discoveryFile string
	var hashes, ignore, skip []string
	var unsafe bool
	c := &cobra.Command{
		Use: "join [HOST:PORT]", Short: "Make this machine one more node of a cluster (root)", Args: cobra.MaximumNArgs(1),
		Example: "  ctl join 192.0.2.2:6443 --token abcdef.0123456789abcdef --discovery-token-ca-cert-hash sha256:…",
		RunE: func(c *cobra.Command, args []string) error {
			docs := &spec.Documents{}
			if file != "" {
				var err error
				if docs, err = spec.Load(file); err != nil {
					return err
				}
			}
			j := &docs.Join
			if j.Discovery.BootstrapToken == nil && (token != "" || discoveryToken != "" || len(args) == 1) && discoveryFile == "" {
				j.Discovery.BootstrapToken = &spec.TokenDiscovery{}
			}
			if t := j.Discovery.BootstrapToken; t != nil {
				for _, v := range []string{token, discoveryToken} {
					if v != "" {
						t.Token = v
					}
				}
				if len(args) == 1 {
					t.APIServerEndpoint = args[0]
				}
				t.CACertHashes = append(t.CACertHashes, hashes...)
				t.UnsafeSkipCAVerification = t.UnsafeSkipCAVerification || unsafe
			}
			if discoveryFile != "" {
				j.Discovery.File = &spec.FileDiscovery{KubeConfigPath: discoveryFile}
			}
			if token != "" {
				j.Discovery.TLSBootstrapToken = token
			}
			m, err := machine()
			if err != nil {
				return err
			}
			if err := j.Complete(node, socket, ignore, skip, m); err != nil {
				return err
			}
			if j.ControlPlane != nil {
				return errors.New("controlPlane: a second control-plane machine is not supported by this version")
			}
			if err := bootstrap.Join(c.Context(), deps(c), docs); err != nil {
				return fmt.Errorf("join: %w", err)
			}
			return nil
		},
	}
	fs := c.Flags()
	fs.StringVar(&file, "config", "", "file with a JoinConfiguration of kubeadm.k8s.io/v1beta4")
	fs.StringVar(&node, "node-name", "", "name of the node; the host name without it")
	fs.StringVar(&socket, "cri-socket", "", "socket of the container runtime; found without it")
	fs.StringVar(&token, "token", "", "token for discovery and for the kubelet's certificate")
	fs.StringVar(&discoveryToken, "discovery-token", "", "token for discovery")
	fs.StringVar(&discoveryFile, "discovery-file", "", "kubeconfig for discovery in place of a token")
	fs.StringSliceVar(&hashes, "discovery-token-ca-cert-hash", nil, "hash of the CA's public key, sha256:HEX")
	fs.BoolVar(&unsafe, "discovery-token-unsafe-skip-ca-verification", false, "trust the cluster without a CA hash")
	fs.StringSliceVar(&ignore, "ignore-preflight-errors", nil, "names of preflight problems to go on with, or all")
	fs.StringSliceVar(&skip, "skip-phases", nil, "phases to leave out")
	return c
}
