package authzconfig

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	apiserverv1 "k8s.io/apiserver/pkg/apis/apiserver/v1"
	authorizationcel "k8s.io/apiserver/pkg/authorization/cel"

	"flagship/apiserver/internal/authn"
	"flagship/apiserver/internal/authz"
	"flagship/apiserver/internal/review"
)

// BuiltIn are the authorizers that live as long as the process.
type BuiltIn struct {
	Node *authz.Node
	RBAC *authz.RBAC
}

// Authorizers decides by the list that is in force.
type Authorizers struct {
	flags   Flags
	builtIn BuiltIn
	abac    authz.ABAC
	// kept are the types of the start but webhooks, which a changed file must have too, and may not add to.
	kept    []string
	check   checker
	metrics *metrics
	log     *zap.Logger
	seen    []byte
	now     atomic.Pointer[authz.Union]
}

// reloadInterval is how often the file is looked at; upstream's is a minute too.
const reloadInterval = time.Minute

// New makes the list. identity names this server in metrics.
//
// Errors: a file cannot be read or is wrong.
func New(f Flags, b BuiltIn, reg prometheus.Registerer, identity string, log *zap.Logger) (*Authorizers, error) {
	a := &Authorizers{flags: f, builtIn: b, metrics: newMetrics(reg, identity), log: log}
	if f.PolicyFile != "" {
		var err error
		if a.abac, err = authz.LoadABAC(f.PolicyFile); err != nil {
			return nil, fmt.Errorf("--authorization-policy-file: %w", err)
		}
	}
	if f.Path == "" {
		c := f.configuration()
		a.keep(c)
		// Flags may say what a file may not, such as a path that is relative.
		return a, a.use(c, make([]*authorizationcel.CELMatcher, len(c.Authorizers)))
	}
	data, err := os.ReadFile(f.Path)
	if err != nil {
		return nil, fmt.Errorf("--authorization-config: %w", err)
	}
	if err := a.load(data); err != nil {
		return nil, fmt.Errorf("--authorization-config %s: %w", f.Path, err)
	}
	a.metrics.inForce(data)
	return a, nil
}

func (a *Authorizers) keep(c *apiserverv1.AuthorizationConfiguration) {
	for i := range c.Authorizers {
		if t := c.Authorizers[i].Type; t != Webhook {
			a.kept = append(a.kept, t)
		}
	}
	slices.Sort(a.kept)
}

func (a *Authorizers) load(data []byte) error {
	a.seen = data
	c, err := parse(data)
	if err != nil {
		return err
	}
	conditions, err := a.check.check(c)
	if err != nil {
		return err
	}
	if a.now.Load() == nil {
		a.keep(c)
	}
	if err := a.permitted(c); err != nil {
		return err
	}
	return a.use(c, conditions)
}

// use takes a configuration over if all of it can be made; conditions are those of each authorizer.
func (a *Authorizers) use(c *apiserverv1.AuthorizationConfiguration, conditions []*authorizationcel.CELMatcher) error {
	u := authz.Union{{Name: "kubernetes.io/system-privileged-group", Authorizer: authz.Superusers{authn.PrivilegedGroup}}}
	for i := range c.Authorizers {
		x := &c.Authorizers[i]
		var next authz.Authorizer
		switch x.Type {
		case Node:
			next = a.builtIn.Node
		case RBAC:
			next = a.builtIn.RBAC
		case ABAC:
			if a.flags.PolicyFile == "" {
				return errors.New("an authorizer of type ABAC wants --authorization-policy-file")
			}
			next = a.abac
		case AlwaysAllow:
			next = authz.Always(authz.Allow)
		case AlwaysDeny:
			next = authz.Always(authz.NoOpinion)
		case Webhook:
			w := x.Webhook
			cfg := review.AccessConfig{Name: x.Name, Version: w.SubjectAccessReviewVersion, Match: conditions[i]}
			if m := cfg.Match; m != nil {
				m.AuthorizerType, m.AuthorizerName, m.Metrics = Webhook, x.Name, a.metrics.webhooks
			}
			var err error
			if next, err = a.webhook(cfg, w); err != nil {
				return fmt.Errorf("authorizer %s: %w", x.Name, err)
			}
		}
		u = append(u, authz.Named{Name: x.Name, Authorizer: a.metrics.counted(x.Type, x.Name, next)})
	}
	a.now.Store(&u)
	return nil
}

func (a *Authorizers) webhook(cfg review.AccessConfig, w *apiserverv1.WebhookConfiguration) (authz.Authorizer, error) {
	var err error
	if cfg.Client, err = review.NewClient(*w.ConnectionInfo.KubeConfigFile, w.Timeout.Duration); err != nil {
		return nil, err
	}
	if *w.CacheAuthorizedRequests {
		cfg.AuthorizedTTL = w.AuthorizedTTL.Duration
	}
	if *w.CacheUnauthorizedRequests {
		cfg.UnauthorizedTTL = w.UnauthorizedTTL.Duration
	}
	if w.FailurePolicy == apiserverv1.FailurePolicyDeny {
		cfg.OnError = authz.Deny
	}
	return review.NewAccess(cfg, a.metrics.webhooks)
}

// permitted is whether a changed configuration has the types of the start.
func (a *Authorizers) permitted(c *apiserverv1.AuthorizationConfiguration) error {
	var have []string
	for i := range c.Authorizers {
		have = append(have, c.Authorizers[i].Type)
	}
	var missing []string
	for _, t := range a.kept {
		if !slices.Contains(have, t) {
			missing = append(missing, t)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("missing required types: %v", missing)
	}
	for _, t := range have {
		if needsStart := t == Node || t == RBAC || t == ABAC; needsStart && !slices.Contains(a.kept, t) {
			return fmt.Errorf("authorizer type %s is not allowed if it was not enabled at initial server startup", t)
		}
	}
	return nil
}

// Run looks at the file now and then until ctx ends, and takes over what changed; what is wrong is not.
func (a *Authorizers) Run(ctx context.Context) error {
	if a.flags.Path == "" {
		<-ctx.Done()
		return nil
	}
	tick := time.NewTicker(reloadInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			a.reload()
		}
	}
}

func (a *Authorizers) reload() {
	data, err := os.ReadFile(a.flags.Path)
	if err == nil {
		if bytes.Equal(data, a.seen) {
			return
		}
		err = a.load(data)
	}
	a.metrics.reloaded(data, err)
	if err != nil {
		a.log.Error("the authorization configuration cannot be used: the last one still is", zap.String("path", a.flags.Path), zap.Error(err))
		return
	}
	a.log.Info("the authorization configuration is loaded", zap.String("path", a.flags.Path))
}

// Authorize implements authz.Authorizer.
func (a *Authorizers) Authorize(ctx context.Context, at authz.Attributes) (authz.Decision, string, error) {
	return a.now.Load().Authorize(ctx, at)
}

// RulesFor implements authz.RuleResolver.
func (a *Authorizers) RulesFor(user *authn.Identity, namespace string) (authz.Rules, error) {
	return a.now.Load().RulesFor(user, namespace)
}
