package app

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"
	"k8s.io/cli-runtime/pkg/genericclioptions"

	"flagship/ctl/internal/bootstrap"
	"flagship/ctl/internal/cluster"
	"flagship/ctl/internal/host"
	"flagship/ctl/internal/pki"
	"flagship/ctl/internal/spec"
)

func client(flags *genericclioptions.ConfigFlags) (*cluster.Client, error) {
	cfg, err := flags.ToRESTConfig()
	if err != nil {
		return nil, err
	}
	return cluster.FromConfig(cfg)
}

func tokenCommand(flags *genericclioptions.ConfigFlags) *cobra.Command {
	c := &cobra.Command{Use: "token", Short: "Make, list and delete the tokens by which machines join"}
	t := spec.BootstrapToken{}
	var ttl time.Duration
	var join bool
	create := &cobra.Command{
		Use: "create [TOKEN]", Short: "Make a token", Args: cobra.MaximumNArgs(1),
		RunE: func(cc *cobra.Command, args []string) error {
			k, err := client(flags)
			if err != nil {
				return err
			}
			t.Token = cluster.NewToken()
			if len(args) == 1 {
				t.Token = args[0]
			}
			if err := spec.ValidToken(t.Token); err != nil {
				return err
			}
			t.TTL = &metav1.Duration{Duration: ttl}
			if err := k.CreateToken(cc.Context(), t, time.Now()); err != nil {
				return err
			}
			if !join {
				fmt.Fprintln(cc.OutOrStdout(), t.Token)
				return nil
			}
			ca, err := (&pki.Store{Dir: "/etc/kubernetes/pki"}).Load("ca")
			if err != nil {
				return err
			}
			fmt.Fprintf(cc.OutOrStdout(), "ctl join %s --token %s --discovery-token-ca-cert-hash %s\n", strings.TrimPrefix(k.Config.Host, "https://"), t.Token, pki.PublicKeyHash(ca.Cert))
			return nil
		},
	}
	create.Flags().DurationVar(&ttl, "ttl", 24*time.Hour, "life of the token; 0 is for ever")
	create.Flags().StringVar(&t.Description, "description", "", "what it is for")
	create.Flags().StringSliceVar(&t.Usages, "usages", []string{"signing", "authentication"}, "what it may be used for")
	create.Flags().StringSliceVar(&t.Groups, "groups", []string{spec.NodeTokenGroup}, "groups that its bearer is in")
	create.Flags().BoolVar(&join, "print-join-command", false, "print the whole command to join with")
	list := &cobra.Command{
		Use: "list", Short: "List the tokens", Args: cobra.NoArgs,
		RunE: func(cc *cobra.Command, _ []string) error {
			k, err := client(flags)
			if err != nil {
				return err
			}
			all, err := k.Tokens(cc.Context())
			if err != nil {
				return err
			}
			w := tabwriter.NewWriter(cc.OutOrStdout(), 0, 8, 3, ' ', 0)
			fmt.Fprintln(w, "TOKEN\tTTL\tEXPIRES\tUSAGES\tDESCRIPTION\tEXTRA GROUPS")
			for _, x := range all {
				left := "<forever>"
				if at, err := time.Parse(time.RFC3339, x.Expires); err == nil {
					left = duration.ShortHumanDuration(time.Until(at))
				}
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", x.Token, left, orNone(x.Expires, "<never>"), orNone(strings.Join(x.Usages, ","), "<none>"),
					orNone(x.Description, "<none>"), orNone(strings.Join(x.Groups, ","), "<none>"))
			}
			return w.Flush()
		},
	}
	del := &cobra.Command{
		Use: "delete TOKEN...", Short: "Delete tokens, by themselves or their IDs", Args: cobra.MinimumNArgs(1),
		RunE: func(cc *cobra.Command, args []string) error {
			k, err := client(flags)
			if err != nil {
				return err
			}
			for _, a := range args {
				if err := k.DeleteToken(cc.Context(), a); err != nil {
					return err
				}
				id, _, _ := strings.Cut(a, ".")
				fmt.Fprintf(cc.OutOrStdout(), "bootstrap token %q deleted\n", id)
			}
			return nil
		},
	}
	generate := &cobra.Command{
		Use: "generate", Short: "Print a random token without storing it", Args: cobra.NoArgs,
		Run: func(cc *cobra.Command, _ []string) { fmt.Fprintln(cc.OutOrStdout(), cluster.NewToken()) },
	}
	c.AddCommand(create, list, del, generate)
	return c
}

func orNone(s, none string) string {
	if s == "" {
		return none
	}
	return s
}

func certsCommand() *cobra.Command {
	c := &cobra.Command{Use: "certs", Short: "Check and renew the certificates of the control plane (root)"}
	check := &cobra.Command{
		Use: "check-expiration", Short: "Show when the certificates expire", Args: cobra.NoArgs,
		RunE: func(cc *cobra.Command, _ []string) error {
			all, err := bootstrap.Certificates()
			if err != nil {
				return err
			}
			w := tabwriter.NewWriter(cc.OutOrStdout(), 0, 8, 3, ' ', 0)
			fmt.Fprintln(w, "CERTIFICATE\tEXPIRES\tRESIDUAL TIME\tCERTIFICATE AUTHORITY")
			for _, x := range all {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", x.Name, x.Expires.UTC().Format("Jan 02, 2006 15:04 MST"), duration.ShortHumanDuration(time.Until(x.Expires)), x.CA)
			}
			return w.Flush()
		},
	}
	renew := &cobra.Command{
		Use: "renew all|NAME...", Short: "Sign certificates again", Args: cobra.MinimumNArgs(1),
		RunE: func(cc *cobra.Command, args []string) error {
			made, err := bootstrap.Renew(args, time.Now)
			for _, m := range made {
				fmt.Fprintln(cc.OutOrStdout(), "renewed", m)
			}
			if err == nil {
				fmt.Fprintln(cc.OutOrStdout(), "The control plane reads them when its pods start again: move its files out of /etc/kubernetes/manifests for 20 seconds and back.")
			}
			return err
		},
	}
	c.AddCommand(check, renew)
	return c
}

func imagesCommand() *cobra.Command {
	c := &cobra.Command{Use: "images", Short: "List and load the images of a cluster"}
	var f spec.Flags
	list := &cobra.Command{
		Use: "list", Short: "List the images that a cluster needs", Args: cobra.NoArgs,
		RunE: func(cc *cobra.Command, _ []string) error {
			d := &spec.Documents{}
			m, _ := machine()
			if err := d.Complete(f, m, time.Now(), cluster.NewToken); err != nil {
				return err
			}
			var all []string
			for _, i := range d.Images() {
				all = append(all, i)
			}
			slices.Sort(all)
			fmt.Fprintln(cc.OutOrStdout(), strings.Join(all, "\n"))
			return nil
		},
	}
	list.Flags().StringVar(&f.ImageRepository, "image-repository", "", "registry of the images (registry.k8s.io)")
	list.Flags().StringVar(&f.Version, "kubernetes-version", "", "version of the control plane ("+spec.KubernetesVersion+")")
	var socket string
	load := &cobra.Command{
		Use: "load [TARBALL...]", Short: "Load image tarballs into the runtime; those beside ctl without arguments (root)",
		RunE: func(cc *cobra.Command, args []string) error {
			var all []host.Tarball
			for _, a := range args {
				p, err := filepath.Abs(a)
				if err != nil {
					return err
				}
				if _, err := os.Stat(p); err != nil {
					return err
				}
				all = append(all, host.Tarball{Image: filepath.Base(a), File: p})
			}
			if dir := host.ImageDir(); len(all) == 0 && dir != "" {
				var err error
				if all, err = host.Tarballs(dir); err != nil {
					return err
				}
			}
			r, err := host.Connect(cc.Context(), socket)
			if err != nil {
				return err
			}
			defer r.Close()
			for _, t := range all {
				if err := r.Import(cc.Context(), t, ""); err != nil {
					return err
				}
				fmt.Fprintln(cc.OutOrStdout(), "loaded", t.Image)
			}
			return nil
		},
	}
	load.Flags().StringVar(&socket, "cri-socket", "", "socket of the container runtime; found without it")
	c.AddCommand(list, load)
	return c
}
