package rest

import (
	"fmt"
	"net/url"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"

	"flagship/apiserver/internal/watchcache"
	"flagship/apiserver/internal/wire"
)

// selection is the part of a resource that a request is about.
type selection struct {
	labels labels.Selector // nil for all
	fields fields.Selector // nil for all
	// rest is the field selector without name and namespace, which the key
	// answers; nil where nothing is left.
	rest      fields.Selector
	namespace string
	name      string
}

// parseSelection reads labelSelector and fieldSelector.
func parseSelection(res *Resource, namespace string, query url.Values) (selection, error) {
	s := selection{namespace: namespace}
	if text := query.Get("labelSelector"); text != "" {
		sel, err := labels.Parse(text)
		if err != nil {
			return s, apierrors.NewBadRequest(err.Error())
		}
		if !sel.Empty() {
			s.labels = sel
		}
	}
	text := query.Get("fieldSelector")
	if text == "" {
		return s, nil
	}
	sel, err := fields.ParseSelector(text)
	if err != nil {
		return s, apierrors.NewBadRequest(err.Error())
	}
	return s, s.takeFields(res, sel)
}

func (s *selection) takeFields(res *Resource, sel fields.Selector) error {
	var left []fields.Selector
	for _, req := range sel.Requirements() {
		switch {
		case req.Field == "metadata.name" || req.Field == "metadata.namespace" && res.Namespaced:
			if strings.Contains(string(req.Operator), "!") {
				left = append(left, fields.OneTermNotEqualSelector(req.Field, req.Value))
				continue
			}
			if req.Field == "metadata.name" {
				s.name = req.Value
			} else if s.namespace == "" {
				s.namespace = req.Value
			} else if s.namespace != req.Value {
				left = append(left, fields.OneTermEqualSelector(req.Field, req.Value))
			}
		case known(res.Strategy.FieldNames, req.Field):
			if strings.Contains(string(req.Operator), "!") {
				left = append(left, fields.OneTermNotEqualSelector(req.Field, req.Value))
			} else {
				left = append(left, fields.OneTermEqualSelector(req.Field, req.Value))
			}
		default:
			if len(res.Strategy.FieldNames) == 0 && res.codec == nil {
				return apierrors.NewBadRequest(fmt.Sprintf("%q is not a known field selector: only \"metadata.name\", \"metadata.namespace\"", req.Field))
			}
			return apierrors.NewBadRequest(fmt.Sprintf("field label not supported: %s", req.Field))
		}
	}
	s.fields = sel
	if len(left) > 0 {
		s.rest = fields.AndSelectors(left...)
	}
	return nil
}

func known(names []string, name string) bool {
	for _, n := range names {
		if n == name {
			return true
		}
	}
	return false
}

// all is whether nothing is selected beyond what the key answers.
func (s *selection) all() bool { return s.labels == nil && s.rest == nil }

// prefix is what the keys of the selection begin with, and exact whether it is
// one whole key.
func (s *selection) prefix(res *Resource) (prefix string, exact bool) {
	switch {
	case res.Namespaced && s.namespace != "" && s.name != "":
		return s.namespace + "/" + s.name, true
	case res.Namespaced && s.namespace != "":
		return s.namespace + "/", false
	case !res.Namespaced && s.name != "":
		return s.name, true
	}
	return "", false
}

// indexField is the field that watchers of a kind are found by.
const indexField = "spec.nodeName"

// scope is the selection as the watch cache's index sees it.
func (s *selection) scope() watchcache.Scope {
	sc := watchcache.Scope{Namespace: s.namespace, Name: s.name}
	if s.rest != nil {
		if v, ok := s.rest.RequiresExactMatch(indexField); ok {
			sc.Index, sc.Indexed = v, true
		}
	}
	return sc
}

// nodeNamePath is spec.nodeName in a Pod's message.
var nodeNamePath = [...]int32{2, 10}

// PodNode is the node that a stored pod is bound to: the index of the pods'
// cache.
func PodNode(e *watchcache.Entry) string {
	_, _, raw, _, err := wire.SplitEnvelope(e.Value)
	if err != nil {
		return ""
	}
	return wire.ScanString(raw, nodeNamePath[:]...)
}

// matches says whether an object is in the selection. Only what a selector
// needs is read from its bytes.
func (a *API) matches(res *Resource, s *selection, e *watchcache.Entry) (bool, error) {
	if s.name != "" && nameOf(res, e.Key) != s.name {
		return false, nil
	}
	if s.namespace != "" && res.Namespaced && !strings.HasPrefix(e.Key, s.namespace+"/") {
		return false, nil
	}
	if s.labels != nil {
		set, err := labelsOf(res, e)
		if err != nil {
			return false, err
		}
		if !s.labels.Matches(set) {
			return false, nil
		}
	}
	if s.rest == nil {
		return true, nil
	}
	return a.matchesFields(res, s.rest, e)
}

func (a *API) matchesFields(res *Resource, sel fields.Selector, e *watchcache.Entry) (bool, error) {
	if res.Kind.Kind == "Pod" && res.Group == "" {
		if reqs := sel.Requirements(); len(reqs) == 1 && reqs[0].Field == indexField {
			return sel.Matches(fields.Set{indexField: PodNode(e)}), nil
		}
	}
	obj, err := a.decodeStored(res, e)
	if err != nil {
		return false, err
	}
	set := fields.Set{}
	if res.Strategy.Fields != nil {
		set = res.Strategy.Fields(obj)
	}
	set["metadata.name"] = nameOf(res, e.Key)
	if ns, _, ok := strings.Cut(e.Key, "/"); ok && res.Namespaced {
		set["metadata.namespace"] = ns
	}
	return sel.Matches(set), nil
}

func nameOf(res *Resource, key string) string {
	if !res.Namespaced {
		return key
	}
	_, name, _ := strings.Cut(key, "/")
	return name
}
