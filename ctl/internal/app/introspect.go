package app

import (
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/duration"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/resource"

	"flagship/ctl/internal/introspect"
	componentv1 "flagship/proto/component/v1"
	decisionv1 "flagship/proto/decision/v1"
)

func asker(flags *genericclioptions.ConfigFlags) (*introspect.Asker, error) {
	cfg, err := flags.ToRESTConfig()
	if err != nil {
		return nil, err
	}
	return introspect.New(cfg)
}

func componentsCommand(flags *genericclioptions.ConfigFlags) *cobra.Command {
	return &cobra.Command{
		Use: "components", Short: "Show the running components: version, health, leader, uptime, memory", Args: cobra.NoArgs,
		Long: "Show the running components: version, health, leader, uptime and resident memory.\n\nIt asks each by gRPC on its secure port with your client certificate. " +
			"The API server's certificate is verified by the cluster's CA; the other components' are self-signed and are not.",
		RunE: func(c *cobra.Command, _ []string) error {
			a, err := asker(flags)
			if err != nil {
				return err
			}
			states, err := a.Components(c.Context())
			printComponents(c.OutOrStdout(), states, time.Now())
			return err
		},
	}
}

func printComponents(out io.Writer, states []introspect.State, now time.Time) {
	w := tabwriter.NewWriter(out, 0, 8, 3, ' ', 0)
	fmt.Fprintln(w, "COMPONENT\tNODE\tVERSION\tHEALTH\tLEADER\tUPTIME\tMEMORY")
	for _, s := range states {
		if s.Err != nil {
			fmt.Fprintf(w, "%s\t%s\t-\t%s\t-\t-\t-\n", s.Component, s.Node, reason(s.Err))
			continue
		}
		leader := s.Info.Leader
		if leader == "" {
			leader = "-"
		} else if leader == s.Info.Identity {
			leader = "this one"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%.0f MiB\n", s.Component, s.Node, s.Info.Version, health(s.Checks), leader,
			duration.HumanDuration(now.Sub(s.Info.StartTime.AsTime())), float64(s.Info.ResidentBytes)/(1<<20))
	}
	_ = w.Flush()
}

// reason is why a component did not say its state, in a word or two.
func reason(err error) string {
	switch st := status.Convert(err); st.Code() {
	case codes.Unimplemented:
		return "no such service"
	case codes.Unavailable, codes.DeadlineExceeded:
		return "unreachable"
	case codes.Unauthenticated, codes.PermissionDenied:
		return "not permitted"
	default:
		return st.Message()
	}
}

func health(checks []*componentv1.Check) string {
	var failing []string
	for _, c := range checks {
		if !c.Healthy {
			failing = append(failing, c.Name)
		}
	}
	if len(failing) > 0 {
		return "failing: " + strings.Join(failing, ",")
	}
	return "ok"
}

func optionsCommand(flags *genericclioptions.ConfigFlags) *cobra.Command {
	var node string
	var set bool
	c := &cobra.Command{
		Use: "options COMPONENT", Short: "Show every effective option of a running component and where it came from", Args: cobra.ExactArgs(1),
		Example: "  ctl options kube-scheduler\n  ctl options kubelet --node n1 --set",
		RunE: func(c *cobra.Command, args []string) error {
			a, err := asker(flags)
			if err != nil {
				return err
			}
			targets, options, err := a.Options(c.Context(), args[0], node)
			if err != nil {
				return err
			}
			for i, t := range targets {
				if len(targets) > 1 {
					fmt.Fprintf(c.OutOrStdout(), "# %s on %s\n", t.Component, t.Node)
				}
				printOptions(c.OutOrStdout(), options[i], set)
			}
			return nil
		},
	}
	c.Flags().StringVar(&node, "node", "", "the node whose component is meant, where there are several")
	c.Flags().BoolVar(&set, "set", false, "only the options that somebody set")
	return c
}

func printOptions(out io.Writer, all []*componentv1.Option, onlySet bool) {
	w := tabwriter.NewWriter(out, 0, 8, 3, ' ', 0)
	fmt.Fprintln(w, "OPTION\tVALUE\tFROM\tDEFAULT")
	for _, o := range all {
		from := origin(o.Origin)
		if onlySet && from == "default" {
			continue
		}
		def := quoted(o.Default)
		if o.Default == o.Value {
			def = ""
		}
		if o.Inert != "" {
			from += " (no effect: " + o.Inert + ")"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", o.Name, quoted(o.Value), from, def)
	}
	_ = w.Flush()
}

func quoted(s string) string {
	if s == "" {
		return `""`
	}
	return s
}

func origin(o *componentv1.Origin) string {
	switch o.GetKind() {
	case componentv1.Origin_KIND_FLAG:
		return "flag"
	case componentv1.Origin_KIND_FILE, componentv1.Origin_KIND_DROP_IN:
		if o.Line > 0 {
			return fmt.Sprintf("%s:%d", o.Source, o.Line)
		}
		return o.Source
	case componentv1.Origin_KIND_ENVIRONMENT:
		return "environment " + o.Source
	}
	return "default"
}

func whyCommand(flags *genericclioptions.ConfigFlags) *cobra.Command {
	return &cobra.Command{
		Use: "why KIND/NAME", Short: "Show what every component decided about an object, and why", Args: cobra.RangeArgs(1, 2),
		Example: "  ctl why pod/web-0\n  ctl why -n shop deployment/cart",
		RunE: func(c *cobra.Command, args []string) error {
			a, err := asker(flags)
			if err != nil {
				return err
			}
			q, err := query(c.Context(), flags, args)
			if err != nil {
				return err
			}
			found, err := a.Why(c.Context(), q)
			printDecisions(c.OutOrStdout(), found)
			if err != nil {
				fmt.Fprintln(c.ErrOrStderr(), "did not answer:", strings.ReplaceAll(err.Error(), "\n", "; "))
			}
			if len(found) == 0 {
				return fmt.Errorf("no component remembers a decision about %s %s", q.Kind, q.Name)
			}
			return nil
		},
	}
}

// query resolves KIND/NAME by the server: the kind's own name, the namespace, and the UID where the object is there.
func query(ctx context.Context, flags *genericclioptions.ConfigFlags, args []string) (*decisionv1.ListRequest, error) {
	namespace, _, err := flags.ToRawKubeConfigLoader().Namespace()
	if err != nil {
		return nil, err
	}
	infos, err := resource.NewBuilder(flags).Unstructured().NamespaceParam(namespace).DefaultNamespace().
		ResourceTypeOrNameArgs(true, args...).SingleResourceType().Flatten().Do().Infos()
	if err == nil && len(infos) == 1 {
		acc, err := meta.Accessor(infos[0].Object)
		if err != nil {
			return nil, err
		}
		return &decisionv1.ListRequest{
			Uid: string(acc.GetUID()), Kind: infos[0].Mapping.GroupVersionKind.Kind, Namespace: acc.GetNamespace(), Name: acc.GetName(),
		}, nil
	}
	kind, name, ok := strings.Cut(strings.Join(args, "/"), "/")
	if !ok || err == nil {
		return nil, fmt.Errorf("give one object as KIND/NAME, such as pod/web-0: %w", err)
	}
	// It is gone: what is remembered of it is found by its name.
	mapper, mapErr := flags.ToRESTMapper()
	if mapErr != nil {
		return nil, mapErr
	}
	gvk, mapErr := mapper.KindFor(schema.ParseGroupResource(strings.ToLower(kind)).WithVersion(""))
	if mapErr != nil {
		return nil, mapErr
	}
	return &decisionv1.ListRequest{Kind: gvk.Kind, Namespace: namespace, Name: name}, nil
}

func printDecisions(out io.Writer, all []*decisionv1.Decision) {
	for _, d := range all {
		who := d.Component
		if d.Actor != "" && d.Actor != d.Component {
			who += "/" + d.Actor
		}
		fmt.Fprintf(out, "%s  %s  %s\n", d.Time.AsTime().Local().Format("15:04:05.000"), who, d.Verdict)
		for _, r := range d.Reasons {
			line := "    "
			if r.Subject != "" {
				line += r.Subject + ": "
			}
			if r.Code != "" {
				line += "[" + r.Code + "] "
			}
			line += r.Message
			if r.Count > 1 {
				line += fmt.Sprintf(" (%d times)", r.Count)
			}
			fmt.Fprintln(out, line)
		}
	}
}
