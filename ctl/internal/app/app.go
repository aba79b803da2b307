package app

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/kubectl/pkg/cmd"

	"flagship/ctl/internal/bootstrap"
)

// Main runs one command and returns the exit code.
func Main(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	defaultKubeconfig()
	flags := genericclioptions.NewConfigFlags(true).WithDeprecatedPasswordFlag().WithDiscoveryBurst(300).WithDiscoveryQPS(50.0).WithWarningPrinter(streams())
	root := newRoot(flags, args)
	root.SetArgs(args[1:])
	if err := root.ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "ctl:", strings.TrimPrefix(err.Error(), "error: "))
		return 1
	}
	return 0
}

func streams() genericiooptions.IOStreams {
	return genericiooptions.IOStreams{In: os.Stdin, Out: os.Stdout, ErrOut: os.Stderr}
}

// defaultKubeconfig lets root reach the cluster of this machine without any setting.
func defaultKubeconfig() {
	if os.Geteuid() != 0 || os.Getenv(clientcmd.RecommendedConfigPathEnvVar) != "" {
		return
	}
	if _, err := os.Stat(bootstrap.AdminConf); err == nil {
		_ = os.Setenv(clientcmd.RecommendedConfigPathEnvVar, bootstrap.AdminConf)
	}
}

// newRoot is kubectl's command tree under another name, with ours in it.
func newRoot(flags *genericclioptions.ConfigFlags, args []string) *cobra.Command {
	root := cmd.NewKubectlCommand(cmd.KubectlOptions{ConfigFlags: flags, IOStreams: streams(), Arguments: args})
	root.Use = "ctl"
	root.Short = "ctl makes, shows and removes Flagship clusters, and is every kubectl command"
	root.Long = root.Short + "\n\nctl's own: " + strings.Join(names(own(flags)), ", ") + ". Everything else is as in kubectl."
	root.SilenceUsage, root.SilenceErrors = true, true
	for _, c := range own(flags) {
		for _, old := range root.Commands() {
			if old.Name() == c.Name() {
				root.RemoveCommand(old)
			}
		}
		root.AddCommand(c)
	}
	return root
}

// own are ctl's commands beside kubectl's.
func own(flags *genericclioptions.ConfigFlags) []*cobra.Command {
	return []*cobra.Command{
		initCommand(), joinCommand(), resetCommand(), startCommand(), tokenCommand(flags), certsCommand(), imagesCommand(),
		componentsCommand(flags), optionsCommand(flags), whyCommand(flags), superviseCommand(),
	}
}

func names(all []*cobra.Command) []string {
	var out []string
	for _, c := range all {
		if !c.Hidden {
			out = append(out, c.Name())
		}
	}
	slices.Sort(out)
	return out
}
