package app

import (
	"crypto/tls"
	"fmt"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"flagship/apiserver/internal/aggregate"
	"flagship/apiserver/internal/extend"
	"flagship/apiserver/internal/resource"
	"flagship/apiserver/internal/rest"
	"flagship/internal/serving"
)

// extension is what the API has beyond the built-in kinds.
type extension struct {
	*extend.Definitions
	*aggregate.Aggregator
}

// aggregator builds the proxy to other API servers.
func (s *apiserver) aggregator(r aggregate.Resolver) (*aggregate.Aggregator, error) {
	deps := aggregate.Deps{Log: s.log.Named("aggregate"), API: s.api, Client: s.local, Resolver: r, Publish: s.disc.Aggregate, Local: s.versions}
	if s.cfg.ProxyClientCert != "" {
		pair, err := serving.NewKeyPair(s.cfg.ProxyClientCert, s.cfg.ProxyClientKey)
		if err != nil {
			return nil, fmt.Errorf("--proxy-client-cert-file: %w", err)
		}
		deps.Certificate = func() (*tls.Certificate, error) { return pair.Get() }
	}
	return aggregate.New(deps), nil
}

// versions are those that this server serves, and whether each is made of
// custom resources.
func (s *apiserver) versions() map[schema.GroupVersion]bool {
	out := map[schema.GroupVersion]bool{}
	for _, k := range s.custom.Kinds() {
		out[k.GroupVersion()] = true
	}
	for _, k := range s.kinds {
		out[k.GroupVersion()] = false
	}
	for _, v := range rest.Virtuals() {
		out[v.GroupVersion()] = false
	}
	return out
}

// extended tells that other custom kinds are served than before.
func (s *apiserver) extended(kinds []*resource.Kind) {
	s.disc.Extend(kinds)
	s.remote.LocalChanged()
}
