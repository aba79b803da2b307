package app

import (
	"fmt"
	"slices"

	"flagship/apiserver/internal/admission"
	"flagship/apiserver/internal/hook"
	"flagship/apiserver/internal/policy"
	"flagship/apiserver/internal/resource"
	"flagship/apiserver/internal/static"
	"flagship/apiserver/internal/webhook"
)

// configured are the plugins whose webhooks and policies are objects of the API, and of the files that configure the plugins.
func (s *apiserver) configured(files admission.Files, services hook.Resolver, asked *webhook.Deps, ruled *policy.Deps) ([]admission.Plugin, error) {
	overlay := &static.Overlay{API: s.api}
	metrics := static.NewMetrics(s.registry, leaseName(s.cfg.ExternalHostname))
	asked.API, ruled.API = overlay, overlay
	// Each plugin has its own kinds, and reads no others.
	open := func(plugin string, kinds ...string) (admission.PluginFiles, error) {
		c, err := files.Plugin(plugin)
		if err != nil || c.StaticManifestsDir == "" {
			return c, err
		}
		of := slices.DeleteFunc(slices.Clone(s.kinds), func(k *resource.Kind) bool {
			return k.Group != "admissionregistration.k8s.io" || k.Version != "v1" || !slices.Contains(kinds, k.Kind)
		})
		dir, err := static.Open(plugin, c.StaticManifestsDir, of, s.scheme, metrics, s.log.Named("admission"))
		if err != nil {
			return c, fmt.Errorf("%s: failed to load static manifests from %q: %w", plugin, c.StaticManifestsDir, err)
		}
		overlay.Dirs = append(overlay.Dirs, dir)
		s.manifests = append(s.manifests, dir)
		return c, nil
	}
	webhooks := func(plugin, kind string) (*webhook.Deps, error) {
		c, err := open(plugin, kind)
		if err != nil || c.KubeConfigFile == "" {
			return asked, err
		}
		credentials, err := hook.ReadCredentials(c.KubeConfigFile)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", plugin, err)
		}
		own := *asked
		own.Caller = hook.New(services, &s.self, credentials, s.tracer)
		return &own, nil
	}
	mutating, err := webhooks((*webhook.Mutating)(nil).Name(), "MutatingWebhookConfiguration")
	if err != nil {
		return nil, err
	}
	validating, err := webhooks((*webhook.Validating)(nil).Name(), "ValidatingWebhookConfiguration")
	if err != nil {
		return nil, err
	}
	if _, err := open((*policy.Mutating)(nil).Name(), "MutatingAdmissionPolicy", "MutatingAdmissionPolicyBinding"); err != nil {
		return nil, err
	}
	if _, err := open((*policy.Validating)(nil).Name(), "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"); err != nil {
		return nil, err
	}
	return []admission.Plugin{policy.NewMutating(ruled), webhook.NewMutating(mutating), policy.NewValidating(ruled), webhook.NewValidating(validating)}, nil
}
