package app

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"flagship/apiserver/internal/authn"
	"flagship/apiserver/internal/oidc"
	"flagship/apiserver/internal/review"
)

// identity is how requests are authenticated, and tokens issued.
type identity struct {
	authenticator authn.Authenticator
	tokens        authn.TokenAuthenticator
	issuer        *authn.Issuer
	discovery     *authn.Discovery
	getter        identityGetter
	// counted counts what another authenticator says with the rest.
	counted func(authn.Authenticator) authn.Authenticator
}

// identity builds the authenticators in upstream's order: front proxy, client
// certificate, token.
func (s *apiserver) identity(ctx context.Context) (*identity, error) {
	m := authn.NewMetrics(s.registry)
	id := &identity{counted: m.Counted}
	c, sa := s.cfg, s.cfg.ServiceAccount
	var chain authn.Chain
	if c.RequestHeader.ClientCAFile != "" {
		ca, err := authn.LoadCAFile(c.RequestHeader.ClientCAFile)
		if err != nil {
			return nil, fmt.Errorf("--requestheader-client-ca-file: %w", err)
		}
		h := c.RequestHeader
		chain = append(chain, authn.FrontProxy{
			CA: ca, AllowedNames: h.AllowedNames, UsernameHeaders: h.Username, UIDHeaders: h.UID, GroupHeaders: h.Group, ExtraHeaderPrefixes: h.ExtraPrefixes,
		})
	}
	if c.ClientCAFile != "" {
		ca, err := authn.LoadCAFile(c.ClientCAFile)
		if err != nil {
			return nil, fmt.Errorf("--client-ca-file: %w", err)
		}
		chain = append(chain, authn.Certificates{CA: ca, Metrics: m})
	}
	getter := &lateGetter{id: id}
	var tokens authn.Tokens
	if c.TokenAuthFile != "" {
		static, err := authn.LoadTokenFile(c.TokenAuthFile)
		if err != nil {
			return nil, fmt.Errorf("--token-auth-file: %w", err)
		}
		tokens = append(tokens, static)
	}
	keys, err := authn.LoadPublicKeys(sa.KeyFiles)
	if err != nil {
		return nil, fmt.Errorf("--service-account-key-file: %w", err)
	}
	tokens = append(tokens, &authn.ServiceAccounts{Metrics: m, Issuers: sa.Issuers, Keys: keys, APIAudiences: c.APIAudiences, Getter: getter})
	if c.BootstrapTokens {
		tokens = append(tokens, &authn.BootstrapTokens{Getter: getter})
	}
	if c.Authentication != "" || c.OIDC.Set {
		s.providers, err = oidc.New(ctx, oidc.Config{Path: c.Authentication, Flags: c.OIDC, OwnIssuers: sa.Issuers, Metrics: oidc.NewMetrics(s.registry, leaseName(s.cfg.ExternalHostname))}, s.log.Named("oidc"))
		if err != nil {
			return nil, err
		}
		tokens = append(tokens, s.providers)
	}
	if w := c.TokenWebhook; w.File != "" {
		client, err := review.NewClient(w.File, review.DefaultTimeout)
		if err != nil {
			return nil, fmt.Errorf("--authentication-token-webhook-config-file: %w", err)
		}
		hook, err := review.NewTokens(client, w.Version, c.APIAudiences)
		if err != nil {
			return nil, fmt.Errorf("--authentication-token-webhook-version: %w", err)
		}
		tokens = append(tokens, authn.NewCache(hook, w.TTL, w.TTL, m))
	}
	signer, err := authn.LoadSigner(sa.SigningKeyFile)
	if err != nil {
		return nil, fmt.Errorf("--service-account-signing-key-file: %w", err)
	}
	id.issuer = &authn.Issuer{Name: sa.Issuers[0], Signer: signer, APIAudiences: c.APIAudiences, MaxExpiration: sa.MaxExpiration, ExtendExpiration: sa.Extend}
	if id.discovery, err = authn.NewDiscovery(sa.Issuers[0], sa.JWKSURI, fmt.Sprintf("%s:%d", c.AdvertiseAddress, c.SecurePort), keys); err != nil {
		s.log.Sugar().Infof("no OIDC discovery documents are served: %v", err)
		id.discovery = nil
	}
	id.tokens = authn.NewCache(tokens, authn.TokenCacheTTL, 0, m)
	chain = append(chain, authn.Bearer{Tokens: id.tokens})
	fail := authn.FailOnError{Chain: chain}
	switch {
	case s.providers != nil && s.providers.DecidesAnonymous():
		if c.AnonymousGiven {
			return nil, errors.New("--anonymous-auth flag cannot be set when anonymous field is configured in authentication configuration file")
		}
		fail.Anonymous = s.providers
	case c.AnonymousAuth:
		fail.Anonymous = authn.AnonymousAuthenticator{}
	}
	id.authenticator = m.Counted(fail)
	return id, nil
}

// lateGetter reads through the API, which is built after the authenticators.
type lateGetter struct{ id *identity }

func (g *lateGetter) GetServiceAccount(ctx context.Context, namespace, name string) (*corev1.ServiceAccount, error) {
	return g.id.getter.GetServiceAccount(ctx, namespace, name)
}

func (g *lateGetter) GetPod(ctx context.Context, namespace, name string) (*corev1.Pod, error) {
	return g.id.getter.GetPod(ctx, namespace, name)
}

func (g *lateGetter) GetSecret(ctx context.Context, namespace, name string) (*corev1.Secret, error) {
	return g.id.getter.GetSecret(ctx, namespace, name)
}

func (g *lateGetter) GetNode(ctx context.Context, name string) (*corev1.Node, error) {
	return g.id.getter.GetNode(ctx, name)
}

// follow feeds the authorizers from the watch cache until ctx ends.
func (s *apiserver) follow(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	started, followers := make(chan struct{}), 0
	watch := func(gvr schema.GroupVersionResource, set, gone func(runtime.Object)) {
		followers++
		g.Go(func() error {
			return s.api.Follow(ctx, gvr, set, gone, func() {
				select {
				case started <- struct{}{}:
				case <-ctx.Done():
				}
			})
		})
	}
	for _, r := range []string{"clusterroles", "clusterrolebindings", "roles", "rolebindings"} {
		watch(rbacv1.SchemeGroupVersion.WithResource(r), s.rbac.Set, s.rbac.Delete)
	}
	if s.fairness != nil {
		for _, r := range []string{"flowschemas", "prioritylevelconfigurations"} {
			watch(flowcontrolv1.SchemeGroupVersion.WithResource(r), s.fairness.Set, s.fairness.Delete)
		}
	}
	watch(corev1.SchemeGroupVersion.WithResource("pods"), func(o runtime.Object) {
		s.graph.SetPod(o.(*corev1.Pod))
	}, func(o runtime.Object) {
		p := o.(*corev1.Pod)
		s.graph.DeletePod(p.Namespace, p.Name)
	})
	watch(corev1.SchemeGroupVersion.WithResource("persistentvolumes"), func(o runtime.Object) {
		s.graph.SetVolume(o.(*corev1.PersistentVolume))
	}, func(o runtime.Object) { s.graph.DeleteVolume(o.(*corev1.PersistentVolume).Name) })
	watch(storagev1.SchemeGroupVersion.WithResource("volumeattachments"), func(o runtime.Object) {
		a := o.(*storagev1.VolumeAttachment)
		s.graph.SetVolumeAttachment(a.Name, a.Spec.NodeName)
	}, func(o runtime.Object) { s.graph.SetVolumeAttachment(o.(*storagev1.VolumeAttachment).Name, "") })
	watch(certificatesv1.SchemeGroupVersion.WithResource("podcertificaterequests"), func(o runtime.Object) {
		r := o.(*certificatesv1.PodCertificateRequest)
		s.graph.SetPodCertificateRequest(r.Namespace, r.Name, string(r.Spec.NodeName))
	}, func(o runtime.Object) {
		r := o.(*certificatesv1.PodCertificateRequest)
		s.graph.SetPodCertificateRequest(r.Namespace, r.Name, "")
	})
	g.Go(func() error {
		for range followers {
			select {
			case <-started:
			case <-ctx.Done():
				return nil
			}
		}
		close(s.ready)
		return nil
	})
	if err := g.Wait(); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}
