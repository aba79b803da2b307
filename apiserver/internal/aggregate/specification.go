package aggregate

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	"k8s.io/kube-openapi/pkg/aggregator"
	"k8s.io/kube-openapi/pkg/validation/spec"
)

// specificationAge is how long another server's OpenAPI v2 document is taken for true.
const specificationAge = time.Minute

// specification is what a server says of itself in OpenAPI v2, in JSON; nil where it says nothing that can be read.
type specification struct {
	data  []byte
	asked time.Time
}

// Specifications are the OpenAPI v2 documents of the servers that are available, each about the versions that are the server's, in the order of these. They are
// asked for where what is known is old.
func (a *Aggregator) Specifications(ctx context.Context) []*spec.Swagger {
	a.mu.RLock()
	services := map[apiregistrationv1.ServiceReference][]*remote{}
	for _, r := range a.remotes {
		if r.available {
			key := serviceOf(r)
			services[key] = append(services[key], r)
		}
	}
	a.mu.RUnlock()
	g := errgroup.Group{}
	g.SetLimit(checks)
	found := make([]*spec.Swagger, len(services))
	i := 0
	for key, of := range services {
		slices.SortFunc(of, func(x, y *remote) int { return strings.Compare(x.name, y.name) })
		at := i
		i++
		g.Go(func() error {
			found[at] = a.specification(ctx, key, of)
			return nil
		})
	}
	_ = g.Wait() // none fails
	found = slices.DeleteFunc(found, func(s *spec.Swagger) bool { return s == nil })
	slices.SortFunc(found, func(x, y *spec.Swagger) int { return strings.Compare(firstPath(x), firstPath(y)) })
	return found
}

// serviceOf is a service without what is not needed to tell it from others.
func serviceOf(r *remote) apiregistrationv1.ServiceReference {
	return apiregistrationv1.ServiceReference{Namespace: r.spec.Service.Namespace, Name: r.spec.Service.Name}
}

func firstPath(s *spec.Swagger) string {
	first := ""
	for p := range s.Paths.Paths {
		if first == "" || p < first {
			first = p
		}
	}
	return first
}

func (a *Aggregator) specification(ctx context.Context, key apiregistrationv1.ServiceReference, of []*remote) *spec.Swagger {
	a.mu.RLock()
	have := a.specifications[key]
	a.mu.RUnlock()
	if time.Since(have.asked) > specificationAge {
		ctx, cancel := context.WithTimeout(ctx, checkTimeout)
		defer cancel()
		url := "https://" + key.Name + "." + key.Namespace + ".svc/openapi/v2"
		var data json.RawMessage
		if err := a.get(ctx, of[0], url, &data); err != nil {
			a.deps.Log.Info("an API server's OpenAPI v2 document cannot be had", zap.String("url", url), zap.Error(err))
		}
		have = specification{data, time.Now()}
		a.mu.Lock()
		a.specifications[key] = have
		a.mu.Unlock()
	}
	if have.data == nil {
		return nil
	}
	doc := &spec.Swagger{}
	if err := json.Unmarshal(have.data, doc); err != nil || doc.Paths == nil {
		a.deps.Log.Info("an API server's OpenAPI v2 document is none", zap.String("service", key.Namespace+"/"+key.Name), zap.Error(err))
		return nil
	}
	var roots []string
	for _, r := range of {
		roots = append(roots, "/apis/"+r.spec.Group+"/"+r.spec.Version+"/")
	}
	aggregator.FilterSpecByPaths(doc, roots)
	if len(doc.Paths.Paths) == 0 {
		return nil
	}
	return doc
}
