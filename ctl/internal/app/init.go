package app

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/spf13/cobra"
	utilnet "k8s.io/apimachinery/pkg/util/net"

	"flagship/ctl/internal/bootstrap"
	"flagship/ctl/internal/cluster"
	"flagship/ctl/internal/host"
	"flagship/ctl/internal/spec"
)

type initFlags struct {
	file           string
	skipTokenPrint bool
	spec.Flags
}

func (f *initFlags) add(c *cobra.Command) {
	fs := c.Flags()
	fs.StringVar(&f.file, "config", "", "file of kubeadm.k8s.io/v1beta4, KubeletConfiguration and KubeProxyConfiguration documents")
	fs.StringVar(&f.AdvertiseAddress, "apiserver-advertise-address", "", "address that the API server is reached at; the default route's without it")
	fs.Int32Var(&f.BindPort, "apiserver-bind-port", 0, "port of the API server (6443)")
	fs.StringSliceVar(&f.CertSANs, "apiserver-cert-extra-sans", nil, "more names and addresses in the API server's certificate")
	fs.StringVar(&f.CertDir, "cert-dir", "", "folder of the PKI (/etc/kubernetes/pki)")
	fs.StringVar(&f.Endpoint, "control-plane-endpoint", "", "stable name or address of the control plane, with an optional port")
	fs.StringVar(&f.CRISocket, "cri-socket", "", "socket of the container runtime; found without it")
	fs.StringSliceVar(&f.IgnorePreflight, "ignore-preflight-errors", nil, "names of preflight problems to go on with, or all")
	fs.StringVar(&f.ImageRepository, "image-repository", "", "registry of the images (registry.k8s.io)")
	fs.StringVar(&f.Version, "kubernetes-version", "", "version of the control plane ("+spec.KubernetesVersion+")")
	fs.StringVar(&f.NodeName, "node-name", "", "name of the node; the host name without it")
	fs.StringVar(&f.PodSubnet, "pod-network-cidr", "", "addresses of pods ("+spec.PodSubnet+")")
	fs.StringVar(&f.ServiceSubnet, "service-cidr", "", "addresses of services (10.96.0.0/12)")
	fs.StringVar(&f.DNSDomain, "service-dns-domain", "", "DNS domain of services (cluster.local)")
	fs.StringSliceVar(&f.SkipPhases, "skip-phases", nil, "phases to leave out")
	fs.BoolVar(&f.skipTokenPrint, "skip-token-print", false, "do not print the token at the end")
	fs.StringVar(&f.Token, "token", "", "bootstrap token; a random one without it")
	fs.DurationVar(&f.TokenTTL, "token-ttl", 24*time.Hour, "life of the token; 0 is for ever")
	fs.BoolVar(&f.Schedulable, "schedulable", false, "let ordinary pods run on this machine: leave out the control-plane taint")
}

func initCommand() *cobra.Command {
	f := &initFlags{}
	c := &cobra.Command{
		Use: "init", Short: "Make this machine the first node of a cluster (root)", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return f.run(c, nil) },
	}
	f.add(c)
	c.AddCommand(phaseCommand(f))
	return c
}

func phaseCommand(parent *initFlags) *cobra.Command {
	var list strings.Builder
	for _, p := range bootstrap.PhaseNames() {
		fmt.Fprintf(&list, "  %-20s %s\n", p[0], p[1])
	}
	c := &cobra.Command{
		Use: "phase PHASE", Short: "Run one phase of init alone", Long: "Run one phase of init alone:\n\n" + list.String(), Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			for _, p := range bootstrap.PhaseNames() {
				if p[0] == args[0] || strings.HasPrefix(p[0], args[0]+"/") {
					return parent.run(c, args)
				}
			}
			return fmt.Errorf("there is no phase %q; they are:\n%s", args[0], list.String())
		},
	}
	parent.add(c)
	return c
}

func (f *initFlags) run(c *cobra.Command, only []string) error {
	docs := &spec.Documents{}
	if f.file != "" {
		var err error
		if docs, err = spec.Load(f.file); err != nil {
			return err
		}
	}
	m, err := machine()
	if err != nil && f.AdvertiseAddress == "" && docs.Init.LocalAPIEndpoint.AdvertiseAddress == "" {
		return fmt.Errorf("%w; give the machine's address by --apiserver-advertise-address", err)
	}
	if err := docs.Complete(f.Flags, m, time.Now(), cluster.NewToken); err != nil {
		return err
	}
	return bootstrap.Init(c.Context(), deps(c), docs, only, f.skipTokenPrint)
}

func machine() (spec.Machine, error) {
	name, err := os.Hostname()
	if err != nil {
		return spec.Machine{}, err
	}
	ip, err := utilnet.ChooseHostInterface()
	if err != nil {
		return spec.Machine{Hostname: strings.ToLower(name)}, fmt.Errorf("find this machine's address: %w", err)
	}
	return spec.Machine{Hostname: strings.ToLower(name), Address: ip.String()}, nil
}

func deps(c *cobra.Command) bootstrap.Deps {
	return bootstrap.Deps{Out: c.OutOrStdout(), Now: time.Now}
}

func resetCommand() *cobra.Command {
	var o bootstrap.ResetOptions
	var force bool
	c := &cobra.Command{
		Use: "reset", Short: "Take this machine out of its cluster and remove what ctl made on it (root)", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if !force && !confirm(c) {
				return fmt.Errorf("nothing was changed")
			}
			return bootstrap.Reset(c.Context(), deps(c), o)
		},
	}
	c.Flags().BoolVarP(&force, "force", "f", false, "do not ask")
	c.Flags().StringVar(&o.CertDir, "cert-dir", "/etc/kubernetes/pki", "folder of the PKI")
	c.Flags().StringVar(&o.CRISocket, "cri-socket", "", "socket of the container runtime; the one that init used without it")
	return c
}

func confirm(c *cobra.Command) bool {
	fmt.Fprint(c.OutOrStdout(), "This removes the cluster's pods, data and files from this machine. Go on? [y/N]: ")
	var answer string
	_, _ = fmt.Fscanln(c.InOrStdin(), &answer)
	return strings.EqualFold(answer, "y") || strings.EqualFold(answer, "yes")
}

func startCommand() *cobra.Command {
	return &cobra.Command{
		Use: "start", Short: "Start the runtime and the kubelet again after a boot, where PID 1 is not systemd (root)", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			how, err := bootstrap.Start(c.Context())
			if err == nil {
				fmt.Fprintln(c.OutOrStdout(), "the kubelet runs as", how)
			}
			return err
		},
	}
}

func superviseCommand() *cobra.Command {
	var name string
	var files []string
	c := &cobra.Command{
		Use: "supervise --name NAME -- COMMAND", Short: "Keep a process running", Hidden: true, Args: cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if _, err := exec.LookPath(args[0]); err != nil {
				return err
			}
			return host.Supervise(c.Context(), name, args, files)
		},
	}
	c.Flags().StringVar(&name, "name", "", "name of the process")
	c.Flags().StringArrayVar(&files, "args-file", nil, "environment file with more arguments")
	return c
}
