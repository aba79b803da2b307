package authz

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"flagship/apiserver/internal/authn"
)

// asking allows what it is told, and remembers what it was asked.
type asking struct {
	allow map[string]bool
	asked []string
}

func (a *asking) Authorize(_ context.Context, at Attributes) (Decision, string, error) {
	resource := at.Resource
	if at.Subresource != "" {
		resource += "/" + at.Subresource
	}
	q := strings.TrimSpace(fmt.Sprintf("%s %s.%s %s", at.Verb, resource, at.APIGroup, strings.Trim(at.Namespace+"/"+at.Name, "/")))
	if len(at.User.Extra) > 0 {
		q += fmt.Sprint(" ", at.User.Extra)
	}
	a.asked = append(a.asked, q)
	if a.allow[q] {
		return Allow, "", nil
	}
	return NoOpinion, "", nil
}

func TestImpersonator(t *testing.T) {
	const (
		onUser    = "impersonate-on:user-info:list pods. ns"
		onNode    = "impersonate-on:arbitrary-node:list pods. ns"
		onOwn     = "impersonate-on:associated-node:list pods. ns map[authentication.kubernetes.io/associated-node-keys:[authentication.kubernetes.io/node-name]]"
		ownNode   = "impersonate:associated-node nodes.authentication.k8s.io * map[authentication.kubernetes.io/associated-node-keys:[authentication.kubernetes.io/node-name]]"
		onAccount = "impersonate-on:serviceaccount:list pods. ns"
	)
	agent := &authn.Identity{Name: "system:serviceaccount:kube-system:agent", Extra: map[string][]string{authn.NodeNameKey: {"n1"}}}
	for name, c := range map[string]struct {
		requester  *authn.Identity
		want       authn.Identity
		allow      []string
		groups     string
		constraint string
		err        string
	}{
		"a user, for some requests": {
			want: authn.Identity{Name: "jane"}, allow: []string{onUser, "impersonate:user-info users.authentication.k8s.io jane"},
			groups: "system:authenticated", constraint: "impersonate:user-info",
		},
		"a user with all that there is": {
			want: authn.Identity{Name: "jane", UID: "5", Groups: []string{"dev"}, Extra: map[string][]string{"a.b/c": {"v"}}},
			allow: []string{
				onUser, "impersonate:user-info users.authentication.k8s.io jane", "impersonate:user-info uids.authentication.k8s.io 5", "impersonate:user-info groups.authentication.k8s.io dev",
				"impersonate:user-info userextras/a.b/c.authentication.k8s.io v",
			}, groups: "dev system:authenticated", constraint: "impersonate:user-info",
		},
		"many groups by one right": {
			want: authn.Identity{Name: "jane", Groups: []string{"a", "b", "c", "d"}}, allow: []string{onUser, "impersonate:user-info users.authentication.k8s.io jane", "impersonate:user-info groups.authentication.k8s.io *"},
			groups: "a b c d system:authenticated", constraint: "impersonate:user-info",
		},
		"a user, as ever": {want: authn.Identity{Name: "jane", Groups: []string{"dev"}}, allow: []string{"impersonate users. jane", "impersonate groups. dev"}, groups: "dev system:authenticated"},
		"masters, as ever": {
			want: authn.Identity{Name: "jane", Groups: []string{authn.PrivilegedGroup}}, allow: []string{onUser, "impersonate:user-info users.authentication.k8s.io jane", "impersonate users. jane", "impersonate groups. system:masters"},
			groups: "system:masters system:authenticated",
		},
		"masters, by a mode": {
			want: authn.Identity{Name: "jane", Groups: []string{authn.PrivilegedGroup}}, allow: []string{onUser, "impersonate:user-info users.authentication.k8s.io jane", "impersonate:user-info groups.authentication.k8s.io system:masters"},
			err: `groups.authentication.k8s.io "system:masters" is forbidden: User "me" cannot impersonate:user-info resource "groups" in API group "authentication.k8s.io" at the cluster scope: impersonating the system:masters group is not allowed`,
		},
		"nobody": {want: authn.Identity{Name: "jane"}, err: `pods is forbidden: User "me" cannot impersonate-on:user-info:list resource "pods" in API group "" in the namespace "ns"`},
		"nobody by that name": {
			want: authn.Identity{Name: "jane"}, allow: []string{onUser},
			err: `users.authentication.k8s.io "jane" is forbidden: User "me" cannot impersonate:user-info resource "users" in API group "authentication.k8s.io" at the cluster scope`,
		},
		"anonymous": {
			want: authn.Identity{Name: authn.Anonymous}, allow: []string{onUser, "impersonate:user-info users.authentication.k8s.io system:anonymous"},
			groups: "system:unauthenticated", constraint: "impersonate:user-info",
		},
		"a service account": {
			want: authn.Identity{Name: "system:serviceaccount:a:b"}, allow: []string{onAccount, "impersonate:serviceaccount serviceaccounts.authentication.k8s.io a/b"},
			groups: "system:serviceaccounts system:serviceaccounts:a system:authenticated", constraint: "impersonate:serviceaccount",
		},
		"a service account, as ever": {
			want: authn.Identity{Name: "system:serviceaccount:a:b"}, allow: []string{"impersonate serviceaccounts. a/b"},
			groups: "system:serviceaccounts system:serviceaccounts:a system:authenticated",
		},
		"a service account with groups, by a mode": {
			want: authn.Identity{Name: "system:serviceaccount:a:b", Groups: []string{"g"}}, allow: []string{onAccount, "impersonate:serviceaccount serviceaccounts.authentication.k8s.io a/b"},
			err: `serviceaccounts "b" is forbidden: User "me" cannot impersonate resource "serviceaccounts" in API group "" in the namespace "a"`,
		},
		"any node": {
			want: authn.Identity{Name: "system:node:n2"}, allow: []string{onNode, "impersonate:arbitrary-node nodes.authentication.k8s.io n2"},
			groups: "system:nodes system:authenticated", constraint: "impersonate:arbitrary-node",
		},
		"a node, as ever": {want: authn.Identity{Name: "system:node:n2"}, allow: []string{"impersonate users. system:node:n2"}, groups: "system:authenticated"},
		"its own node": {
			requester: agent, want: authn.Identity{Name: "system:node:n1"}, allow: []string{onOwn, ownNode},
			groups: "system:nodes system:authenticated", constraint: "impersonate:associated-node",
		},
		"another's node": {
			requester: agent, want: authn.Identity{Name: "system:node:n2"}, allow: []string{onOwn, ownNode},
			err: `pods is forbidden: User "system:serviceaccount:kube-system:agent" cannot impersonate-on:arbitrary-node:list resource "pods" in API group "" in the namespace "ns"`,
		},
		"a key that is none": {
			want: authn.Identity{Name: "jane", Extra: map[string][]string{"key": {"v"}}}, allow: []string{onUser, "impersonate:user-info users.authentication.k8s.io jane"},
			err: `impersonating an invalid key in extra is not allowed: extra.key: Invalid value: "key": must be a domain-prefixed path (such as "acme.io/foo")`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			a := &asking{allow: map[string]bool{}}
			for _, q := range c.allow {
				a.allow[q] = true
			}
			who := c.requester
			if who == nil {
				who = &authn.Identity{Name: "me"}
			}
			m := NewImpersonator(a, prometheus.NewRegistry())
			at := Attributes{User: who, Verb: "list", Resource: "pods", Namespace: "ns", ResourceRequest: true}
			for range 2 { // the second time it begins with what was allowed
				id, constraint, err := m.As(t.Context(), &c.want, at)
				if c.err != "" {
					if err == nil || !strings.Contains(err.Error(), c.err) {
						t.Fatalf("%v, want %s; asked %q", err, c.err, a.asked)
					}
					continue
				}
				if err != nil {
					t.Fatalf("%v; asked %q", err, a.asked)
				}
				if d := cmp.Diff([]string{c.groups, c.constraint}, []string{strings.Join(id.Groups, " "), constraint}); d != "" {
					t.Errorf("groups and verb (-want +got):\n%s", d)
				}
			}
			if c.err == "" && c.constraint == "" && a.asked[len(a.asked)-1] != c.allow[len(c.allow)-1] {
				t.Errorf("asked %q", a.asked)
			}
		})
	}
}
