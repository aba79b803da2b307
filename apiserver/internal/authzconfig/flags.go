package authzconfig

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apiserverv1 "k8s.io/apiserver/pkg/apis/apiserver/v1"

	"flagship/apiserver/internal/review"
)

// Types of authorizers.
const (
	Node        = "Node"
	RBAC        = "RBAC"
	ABAC        = "ABAC"
	AlwaysAllow = "AlwaysAllow"
	AlwaysDeny  = "AlwaysDeny"
	Webhook     = string(apiserverv1.TypeWebhook)
)

// types are those that there are, sorted.
var types = []string{ABAC, AlwaysAllow, AlwaysDeny, Node, RBAC, Webhook}

// Flags are --authorization-*.
type Flags struct {
	Modes []string
	// Path is the file of the AuthorizationConfiguration, empty for none. It takes the place of all others but PolicyFile.
	Path string
	// PolicyFile is that of ABAC.
	PolicyFile string

	WebhookFile                    string
	WebhookVersion                 string
	AuthorizedTTL, UnauthorizedTTL time.Duration
}

// legacy are the flags that the file takes the place of.
var legacy = []string{
	"authorization-mode", "authorization-webhook-config-file", "authorization-webhook-version",
	"authorization-webhook-cache-authorized-ttl", "authorization-webhook-cache-unauthorized-ttl",
}

// AddFlags registers them with upstream's defaults.
func (f *Flags) AddFlags(fs *pflag.FlagSet) {
	fs.StringSliceVar(&f.Modes, "authorization-mode", nil, "ordered authorizers: "+strings.Join(types, ", ")+"; AlwaysAllow without it and without --authorization-config")
	fs.StringVar(&f.Path, "authorization-config", "", "file with the AuthorizationConfiguration: the ordered authorizers; it is taken over anew when it changes")
	fs.StringVar(&f.PolicyFile, "authorization-policy-file", "", "file with a policy in each line, for --authorization-mode=ABAC")
	fs.StringVar(&f.WebhookFile, "authorization-webhook-config-file", "", "kubeconfig of the server that authorizes, for --authorization-mode=Webhook")
	fs.StringVar(&f.WebhookVersion, "authorization-webhook-version", "v1beta1", "version of the SubjectAccessReviews that are sent: v1 or v1beta1")
	fs.DurationVar(&f.AuthorizedTTL, "authorization-webhook-cache-authorized-ttl", 5*time.Minute, "how long the server's yes is kept")
	fs.DurationVar(&f.UnauthorizedTTL, "authorization-webhook-cache-unauthorized-ttl", 30*time.Second, "how long the server's no is kept")
}

// Complete checks flags that have been parsed.
func (f *Flags) Complete(fs *pflag.FlagSet) error {
	if f.Path != "" {
		if slices.ContainsFunc(legacy, fs.Changed) {
			return errors.New("--authorization-config can not be specified when --authorization-mode or --authorization-webhook-* flags are defined")
		}
		return nil
	}
	if len(f.Modes) == 0 {
		f.Modes = []string{AlwaysAllow}
	}
	for i, m := range f.Modes {
		if !slices.Contains(types, m) {
			return fmt.Errorf("--authorization-mode: %q is not a valid mode: want %s", m, strings.Join(types, ", "))
		}
		if slices.Contains(f.Modes[:i], m) {
			return fmt.Errorf("--authorization-mode: %q is given more than once", m)
		}
	}
	for _, x := range []struct{ mode, flag, value string }{
		{ABAC, "authorization-policy-file", f.PolicyFile},
		{Webhook, "authorization-webhook-config-file", f.WebhookFile},
	} {
		has := slices.Contains(f.Modes, x.mode)
		if has && x.value == "" {
			return fmt.Errorf("--authorization-mode: %s wants --%s", x.mode, x.flag)
		}
		if !has && x.value != "" {
			return fmt.Errorf("--%s: goes with --authorization-mode=%s alone", x.flag, x.mode)
		}
	}
	if !slices.Contains(review.Versions, f.WebhookVersion) {
		return fmt.Errorf("--authorization-webhook-version: %q is not %s", f.WebhookVersion, strings.Join(review.Versions, " or "))
	}
	return nil
}

// configuration is that of the flags.
func (f *Flags) configuration() *apiserverv1.AuthorizationConfiguration {
	c := &apiserverv1.AuthorizationConfiguration{}
	for _, m := range f.Modes {
		a := apiserverv1.AuthorizerConfiguration{Type: m, Name: strings.ToLower(m)}
		if m == Webhook {
			a.Name = "default"
			keepYes, keepNo := f.AuthorizedTTL != 0, f.UnauthorizedTTL != 0
			a.Webhook = &apiserverv1.WebhookConfiguration{
				AuthorizedTTL: metav1.Duration{Duration: f.AuthorizedTTL}, CacheAuthorizedRequests: &keepYes,
				UnauthorizedTTL: metav1.Duration{Duration: f.UnauthorizedTTL}, CacheUnauthorizedRequests: &keepNo,
				Timeout: metav1.Duration{Duration: review.DefaultTimeout}, FailurePolicy: apiserverv1.FailurePolicyNoOpinion,
				SubjectAccessReviewVersion: f.WebhookVersion,
				ConnectionInfo:             apiserverv1.WebhookConnectionInfo{Type: apiserverv1.AuthorizationWebhookConnectionInfoTypeKubeConfigFile, KubeConfigFile: &f.WebhookFile},
			}
		}
		c.Authorizers = append(c.Authorizers, a)
	}
	return c
}
