package fairness

import (
	"cmp"
	"hash/maphash"
	"slices"
	"strings"

	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	"k8s.io/apimachinery/pkg/types"

	"flagship/apiserver/internal/authn"
	"flagship/apiserver/internal/rest"
)

// class is a FlowSchema that is in force, with the level that it leads to.
type class struct {
	schema *flowcontrolv1.FlowSchema
	level  *level
	// uid is the level's configuration's, and widest the most seats that one request may take, 0 for the estimate's own bound.
	uid     types.UID
	widest  int
	metrics func() *classMetrics
}

// order puts schemas in the order in which they are tried.
func order(a, b *flowcontrolv1.FlowSchema) int {
	return cmp.Or(cmp.Compare(a.Spec.MatchingPrecedence, b.Spec.MatchingPrecedence), cmp.Compare(a.Name, b.Name))
}

// classify returns the first class that matches. Classes end with one that everybody belongs to, see compile.
func classify(classes []*class, user *authn.Identity, i *rest.Info) *class {
	for _, c := range classes {
		if matches(c.schema, user, i) {
			return c
		}
	}
	return classes[len(classes)-1]
}

func matches(s *flowcontrolv1.FlowSchema, user *authn.Identity, i *rest.Info) bool {
	for r := range s.Spec.Rules {
		rule := &s.Spec.Rules[r]
		if !slices.ContainsFunc(rule.Subjects, func(s flowcontrolv1.Subject) bool { return names(&s, user) }) {
			continue
		}
		// The first rule of a subject does not decide: another may have the resource.
		if i.IsResource && slices.ContainsFunc(rule.ResourceRules, func(r flowcontrolv1.ResourcePolicyRule) bool { return covers(&r, i) }) ||
			!i.IsResource && slices.ContainsFunc(rule.NonResourceRules, func(r flowcontrolv1.NonResourcePolicyRule) bool {
				return has(r.Verbs, i.Verb) && coversPath(r.NonResourceURLs, i.Path)
			}) {
			return true
		}
	}
	return false
}

// names says whether a subject is the user.
func names(s *flowcontrolv1.Subject, user *authn.Identity) bool {
	switch {
	case s.Kind == flowcontrolv1.SubjectKindUser && s.User != nil:
		return s.User.Name == flowcontrolv1.NameAll || s.User.Name == user.Name
	case s.Kind == flowcontrolv1.SubjectKindGroup && s.Group != nil:
		return s.Group.Name == flowcontrolv1.NameAll || user.InGroup(s.Group.Name)
	case s.Kind == flowcontrolv1.SubjectKindServiceAccount && s.ServiceAccount != nil:
		if s.ServiceAccount.Name == flowcontrolv1.NameAll {
			return strings.HasPrefix(user.Name, authn.ServiceAccountUsername(s.ServiceAccount.Namespace, ""))
		}
		return user.Name == authn.ServiceAccountUsername(s.ServiceAccount.Namespace, s.ServiceAccount.Name)
	}
	return false
}

func covers(r *flowcontrolv1.ResourcePolicyRule, i *rest.Info) bool {
	if !has(r.Verbs, i.Verb) || !has(r.APIGroups, i.Group) || !hasResource(r.Resources, i) {
		return false
	}
	if i.Namespace == "" {
		return r.ClusterScope
	}
	return has(r.Namespaces, i.Namespace)
}

// has says whether a list holds a value, or stands for all. "*" is valid only where it is alone.
func has(list []string, value string) bool {
	return len(list) == 1 && list[0] == "*" || slices.Contains(list, value)
}

func hasResource(list []string, i *rest.Info) bool {
	if i.Subresource == "" || len(list) == 1 && list[0] == "*" {
		return has(list, i.Resource)
	}
	for _, r := range list {
		if resource, sub, ok := strings.Cut(r, "/"); ok && resource == i.Resource && sub == i.Subresource {
			return true
		}
	}
	return false
}

// coversPath says whether one of a rule's URLs is the path or heads it: /a covers /a/b, with or without "*" at its end.
func coversPath(urls []string, path string) bool {
	for _, u := range urls {
		if u == flowcontrolv1.NonResourceAll || u == path {
			return true
		}
		head := strings.TrimSuffix(u, "*")
		if !strings.HasSuffix(head, "/") {
			head += "/"
		}
		if strings.HasPrefix(path, head) {
			return true
		}
	}
	return false
}

// distinguisher tells the flows of a schema apart.
func distinguisher(s *flowcontrolv1.FlowSchema, user *authn.Identity, i *rest.Info) string {
	switch m := s.Spec.DistinguisherMethod; {
	case m == nil:
		return ""
	case m.Type == flowcontrolv1.FlowDistinguisherMethodByUserType:
		return user.Name
	default:
		return i.Namespace
	}
}

var seed = maphash.MakeSeed()

// flowHash is what the queues of a flow are dealt by.
func flowHash(schema, flow string) uint64 {
	var h maphash.Hash
	h.SetSeed(seed)
	_, _ = h.WriteString(schema)
	_ = h.WriteByte(0)
	_, _ = h.WriteString(flow)
	return h.Sum64()
}

// maxHand is the most queues that a flow may be dealt: the hands of a valid PriorityLevelConfiguration have 60 bits of entropy at most.
const maxHand = 15

// deal picks size different numbers below deck, as one value decides: a flow's hand. size is at most maxHand.
func deal(value uint64, deck, size int) (hand [maxHand]int) {
	var drawn [maxHand]int // in ascending order
	for i := range size {
		left := uint64(deck - i)  //nolint:gosec // a hand is no larger than its deck, validated
		card := int(value % left) //nolint:gosec // below deck
		value /= left
		// The card counts among those that are left.
		at := 0
		for at < i && drawn[at] <= card {
			card++
			at++
		}
		copy(drawn[at+1:i+1], drawn[at:i])
		drawn[at], hand[i] = card, card
	}
	return hand
}
