package app

import (
	"context"
	"strings"

	"go.uber.org/zap"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"flagship/apiserver/internal/encrypt"
	"flagship/apiserver/internal/resource"
	"flagship/apiserver/internal/rest"
	"flagship/apiserver/internal/store"
	"flagship/internal/serving"
)

// transformer is between the process and what is stored: protobuf inside, and
// outside what the encryption configuration says. The second answer follows
// that configuration, nil where there is none.
func (s *apiserver) transformer(ctx context.Context) (store.Transformer, *encrypt.Transformer, error) {
	inner := rest.StoredJSON(s.scheme, s.cfg.Etcd.Prefix)
	if s.cfg.EncryptionConfig == "" {
		return inner, nil, nil
	}
	log := s.log.Named("encrypt")
	outer, err := encrypt.New(ctx, encrypt.Config{
		Path: s.cfg.EncryptionConfig, Reload: s.cfg.ReloadEncryption, ResourceOf: resourceOf(resource.Kinds(), s.cfg.Etcd.Prefix),
		Recovered: func() {
			if err := s.hub.Unseal(ctx); err != nil {
				log.Error("values that can be read again are not loaded", zap.Error(err))
			}
		},
		Metrics: encrypt.NewMetrics(s.registry, leaseName(s.cfg.ExternalHostname)),
	}, log)
	if err != nil {
		return nil, nil, err
	}
	if outer.Remote() {
		s.checks.Add(serving.Check{Name: "kms-providers", Live: true, Ready: true, Probe: outer.Check})
	}
	return store.Chain{Outer: outer, Inner: inner}, outer, nil
}

// resourceOf tells the resource of a key of the store: of a built-in kind by
// its prefix, else /GROUP/RESOURCE/, as custom resources are stored.
func resourceOf(kinds []*resource.Kind, prefix string) func(key string) schema.GroupResource {
	prefix = strings.TrimSuffix(prefix, "/")
	known := make(map[string]schema.GroupResource, len(kinds))
	for _, k := range kinds {
		if k.StoredGVK() == k.GroupVersionKind {
			known[k.Prefix] = k.GroupResource()
		}
	}
	return func(key string) schema.GroupResource {
		path := strings.TrimPrefix(key, prefix)
		first, rest, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
		if gr, ok := known["/"+first+"/"]; ok {
			return gr
		}
		second, _, _ := strings.Cut(rest, "/")
		if gr, ok := known["/"+first+"/"+second+"/"]; ok {
			return gr
		}
		if !strings.Contains(first, ".") { // which every group of custom resources has
			return schema.GroupResource{Resource: first}
		}
		return schema.GroupResource{Group: first, Resource: second}
	}
}
