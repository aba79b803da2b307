package oidc

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"k8s.io/apimachinery/pkg/util/sets"
	apiserverv1 "k8s.io/apiserver/pkg/apis/apiserver/v1"

	"flagship/apiserver/internal/authn"
)

// Config is where the providers come from: a file, or flags.
type Config struct {
	// Path is the file, empty for none.
	Path  string
	Flags Flags
	// OwnIssuers are those of the server's own tokens, which no provider may have.
	OwnIssuers []string
	Metrics    *Metrics
}

// Providers recognizes the tokens of all providers, and who may come without a token.
type Providers struct {
	cfg  Config
	log  *zap.Logger
	seen [sha256.Size]byte
	now  atomic.Pointer[current]
}

// current is one state of the configuration.
type current struct {
	tokens    authn.Tokens
	issuers   []string
	anonymous *apiserverv1.AnonymousAuthConfig
	cancel    context.CancelFunc
}

// reloadInterval is how often the file is looked at; upstream's is a minute too.
const reloadInterval = time.Minute

// New reads the configuration.
//
// Errors: it cannot be read or is wrong.
func New(ctx context.Context, cfg Config, log *zap.Logger) (*Providers, error) {
	p := &Providers{cfg: cfg, log: log}
	if cfg.Path == "" {
		c, err := cfg.Flags.Configuration()
		if err != nil {
			return nil, err
		}
		return p, p.use(ctx, c, cfg.Flags.SigningAlgs)
	}
	data, err := os.ReadFile(cfg.Path)
	if err != nil {
		return nil, fmt.Errorf("--authentication-config: %w", err)
	}
	if err := p.load(ctx, data); err != nil {
		return nil, fmt.Errorf("--authentication-config %s: %w", cfg.Path, err)
	}
	cfg.Metrics.inForce(data)
	return p, nil
}

func (p *Providers) load(ctx context.Context, data []byte) error {
	p.seen = sha256.Sum256(data)
	c, err := Parse(data)
	if err != nil {
		return err
	}
	return p.use(ctx, c, SigningAlgs)
}

// use takes a configuration over if all of it is right. What was before ends.
func (p *Providers) use(ctx context.Context, c *apiserverv1.AuthenticationConfiguration, algs []string) error {
	check := &checker{own: sets.New(p.cfg.OwnIssuers...)}
	mappers := check.check(c)
	if len(check.errs) > 0 {
		return check.errs.ToAggregate()
	}
	if old := p.now.Load(); old != nil && (old.anonymous == nil) != (c.Anonymous == nil) {
		return errors.New("whether anonymous is set cannot change while the server runs")
	}
	ctx, cancel := context.WithCancel(ctx)
	next := &current{anonymous: c.Anonymous, cancel: cancel}
	for i := range c.JWT {
		provider, err := newProvider(ctx, &c.JWT[i], mappers[i], algs, p.cfg.Metrics, p.log)
		if err != nil {
			cancel()
			return err
		}
		next.tokens, next.issuers = append(next.tokens, provider), append(next.issuers, c.JWT[i].Issuer.URL)
	}
	if old := p.now.Swap(next); old != nil {
		// Requests that are with it may end.
		time.AfterFunc(httpTimeout, func() {
			old.cancel()
			p.forget(old)
		})
	}
	return nil
}

// forget ends the metrics of issuers that are no more.
func (p *Providers) forget(old *current) {
	for _, issuer := range old.issuers {
		if !slices.Contains(p.now.Load().issuers, issuer) {
			p.cfg.Metrics.forget(issuer)
		}
	}
}

// Run looks at the file now and then until ctx ends, and takes over what changed; what is wrong is not.
func (p *Providers) Run(ctx context.Context) error {
	defer func() { p.now.Load().cancel() }()
	if p.cfg.Path == "" {
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
			p.reload(ctx)
		}
	}
}

func (p *Providers) reload(ctx context.Context) {
	data, err := os.ReadFile(p.cfg.Path)
	if err == nil {
		if sha256.Sum256(data) == p.seen {
			return
		}
		err = p.load(ctx, data)
	}
	p.cfg.Metrics.reloaded(data, err)
	if err != nil {
		p.log.Error("the authentication configuration cannot be used: the last one still is", zap.String("path", p.cfg.Path), zap.Error(err))
		return
	}
	p.log.Info("the authentication configuration is loaded", zap.String("path", p.cfg.Path))
}

// AuthenticateToken implements authn.TokenAuthenticator.
func (p *Providers) AuthenticateToken(ctx context.Context, token string) (*authn.Identity, bool, error) {
	return p.now.Load().tokens.AuthenticateToken(ctx, token)
}

// DecidesAnonymous is whether the configuration says who may come without credentials, so that no flag does.
func (p *Providers) DecidesAnonymous() bool { return p.now.Load().anonymous != nil }

// Authenticate implements authn.Authenticator for those without credentials, where the configuration decides about them.
func (p *Providers) Authenticate(r *http.Request) (*authn.Identity, bool, error) {
	a := p.now.Load().anonymous
	if a == nil || !a.Enabled {
		return nil, false, nil
	}
	if len(a.Conditions) > 0 && !slices.ContainsFunc(a.Conditions, func(c apiserverv1.AnonymousAuthCondition) bool { return c.Path == r.URL.Path }) {
		return nil, false, nil
	}
	return authn.AnonymousAuthenticator{}.Authenticate(r)
}
