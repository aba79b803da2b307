package authz

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/selection"

	"flagship/apiserver/internal/authn"
)

const nodeUserPrefix = "system:node:"

// NodeName returns the node that a user is; ok is false for a user that is none. The name is empty for a member of
// system:nodes whose user name does not tell it.
func NodeName(user *authn.Identity) (name string, ok bool) {
	name, ok = strings.CutPrefix(user.Name, nodeUserPrefix)
	if !ok || !user.InGroup(authn.NodesGroup) {
		return "", false
	}
	return name, true
}

// Node authorizes kubelets: they may read what their own pods refer to, write their own objects, and do what the role
// system:node allows.
type Node struct {
	graph *Graph
	rules []rbacv1.PolicyRule
}

// NewNode returns the authorizer of a graph.
func NewNode(g *Graph) *Node { return &Node{graph: g, rules: NodeRules()} }

// Authorize implements Authorizer.
func (n *Node) Authorize(_ context.Context, a Attributes) (Decision, string, error) {
	node, ok := NodeName(a.User)
	if !ok {
		return NoOpinion, "", nil
	}
	if node == "" {
		return NoOpinion, fmt.Sprintf("unknown node for user %q", a.User.Name), nil
	}
	allowed, reason, decided := n.decide(node, &a)
	if !decided {
		allowed = slices.ContainsFunc(n.rules, func(r rbacv1.PolicyRule) bool { return ruleAllows(&r, &a) })
	}
	if allowed {
		return Allow, "", nil
	}
	return NoOpinion, reason, nil
}

// decide answers for the resources that depend on the node; decided is false for the others.
func (n *Node) decide(node string, a *Attributes) (allowed bool, reason string, decided bool) {
	if !a.ResourceRequest {
		return false, "", false
	}
	switch a.APIGroup + "/" + a.Resource {
	case "/secrets":
		allowed, reason = n.read(node, secretVertex, a)
	case "/configmaps":
		allowed, reason = n.read(node, configMapVertex, a)
	case "/persistentvolumeclaims":
		if a.Subresource == "status" {
			allowed, reason = n.writeStatus(node, claimVertex, a)
		} else {
			allowed, reason = n.get(node, claimVertex, a)
		}
	case "/persistentvolumes":
		allowed, reason = n.get(node, volumeVertex, a)
	case "resource.k8s.io/resourceclaims":
		allowed, reason = n.get(node, resourceClaimVertex, a)
	case "storage.k8s.io/volumeattachments":
		allowed, reason = n.get(node, attachmentVertex, a)
	case "/serviceaccounts":
		allowed, reason = n.serviceAccount(node, a)
	case "coordination.k8s.io/leases":
		allowed, reason = n.lease(node, a)
	case "storage.k8s.io/csinodes":
		allowed, reason = n.csiNode(node, a)
	case "resource.k8s.io/resourceslices":
		allowed, reason = n.slice(node, a)
	case "/nodes":
		allowed, reason = n.node(node, a)
	case "/pods":
		allowed, reason = n.pod(node, a)
	case "certificates.k8s.io/podcertificaterequests":
		allowed, reason = n.certificate(node, a)
	default:
		return false, "", false
	}
	return allowed, reason, true
}

func (n *Node) related(node string, kind vertexKind, a *Attributes) (bool, string) {
	if a.Name == "" {
		return false, "No Object name found"
	}
	if n.graph.related(node, vertex{kind, a.Namespace, a.Name}) {
		return true, ""
	}
	return false, fmt.Sprintf("no relationship found between node '%s' and this object", node)
}

func (n *Node) read(node string, kind vertexKind, a *Attributes) (bool, string) {
	switch {
	case !isRead(a.Verb):
		return false, "can only read resources of this type"
	case a.Subresource != "":
		return false, "cannot read subresource"
	case a.Namespace == "":
		return false, "can only read namespaced object of this type"
	}
	return n.related(node, kind, a)
}

func isRead(verb string) bool { return verb == "get" || verb == "list" || verb == "watch" }

func (n *Node) get(node string, kind vertexKind, a *Attributes) (bool, string) {
	switch {
	case a.Verb != "get":
		return false, "can only get individual resources of this type"
	case a.Subresource != "":
		return false, "cannot get subresource"
	}
	return n.related(node, kind, a)
}

func (n *Node) writeStatus(node string, kind vertexKind, a *Attributes) (bool, string) {
	if a.Verb != "update" && a.Verb != "patch" {
		return false, "can only get/update/patch this type"
	}
	return n.related(node, kind, a)
}

func (n *Node) serviceAccount(node string, a *Attributes) (bool, string) {
	switch {
	case a.Verb == "get" && a.Subresource == "":
		return n.read(node, serviceAccountVertex, a)
	case a.Verb != "create" || a.Name == "":
		return false, "can only create tokens for individual service accounts"
	case a.Subresource != "token":
		return false, "can only create token subresource of serviceaccount"
	}
	return n.related(node, serviceAccountVertex, a)
}

func (n *Node) lease(node string, a *Attributes) (bool, string) {
	switch {
	case !slices.Contains([]string{"get", "create", "update", "patch", "delete"}, a.Verb):
		return false, "can only get, create, update, patch, or delete a node lease"
	case a.Namespace != corev1.NamespaceNodeLease:
		return false, fmt.Sprintf("can only access leases in the %q system namespace", corev1.NamespaceNodeLease)
	case a.Verb != "create" && a.Name != node: // on create, admission compares the names
		return false, "can only access node lease with the same name as the requesting node"
	}
	return true, ""
}

func (n *Node) csiNode(node string, a *Attributes) (bool, string) {
	switch {
	case a.Subresource == "status":
		return false, "CSINode status access requires CSIVolumeHealth feature"
	case a.Subresource != "":
		return false, "cannot authorize CSINode subresources"
	case !slices.Contains([]string{"get", "create", "update", "patch", "delete"}, a.Verb):
		return false, "can only get, create, update, patch, or delete a CSINode"
	case a.Verb != "create" && a.Name != node:
		return false, "can only access CSINode with the same name as the requesting node"
	}
	return true, ""
}

func selects(a *Attributes, field, value string) bool {
	for _, r := range a.Fields {
		if r.Field == field && r.Operator == selection.Equals && r.Value == value {
			return true
		}
	}
	return false
}

func (n *Node) slice(node string, a *Attributes) (bool, string) {
	if a.Subresource != "" {
		return false, "cannot authorize ResourceSlice subresources"
	}
	switch a.Verb {
	case "create": // admission compares the names
		return true, ""
	case "get", "update", "patch", "delete":
		return n.related(node, sliceVertex, a)
	case "watch", "list", "deletecollection":
		if selects(a, "spec.nodeName", node) {
			return true, ""
		}
		return false, "can only list/watch/deletecollection resourceslices with nodeName field selector"
	}
	return false, "only the following verbs are allowed for a ResourceSlice: get, watch, list, create, update, patch, delete, deletecollection"
}

func (n *Node) certificate(node string, a *Attributes) (bool, string) {
	if a.Subresource != "" {
		return false, "nodes may not access the status subresource of PodCertificateRequests"
	}
	switch a.Verb {
	case "create":
		return true, ""
	case "get":
		return n.related(node, certificateVertex, a)
	case "list", "watch":
		if selects(a, "spec.nodeName", node) {
			return true, ""
		}
		return false, "can only list/watch podcertificaterequests with nodeName field selector"
	}
	return false, fmt.Sprintf("nodes may not %s podcertificaterequests", a.Verb)
}

func (n *Node) node(node string, a *Attributes) (bool, string) {
	write := a.Verb == "update" || a.Verb == "patch"
	switch {
	case a.Subresource == "" && (write || a.Verb == "create"), a.Subresource == "status" && write:
		return true, ""
	case a.Subresource == "" && isRead(a.Verb):
		switch a.Name {
		case node:
			return true, ""
		case "":
			return false, fmt.Sprintf("node '%s' cannot read all nodes, only its own Node object", node)
		}
		return false, fmt.Sprintf("node '%s' cannot read '%s', only its own Node object", node, a.Name)
	}
	return false, ""
}

func (n *Node) pod(node string, a *Attributes) (bool, string) {
	switch a.Subresource {
	case "":
		switch a.Verb {
		case "get":
			return n.related(node, podVertex, a)
		case "list", "watch":
			if selects(a, "spec.nodeName", node) {
				return true, ""
			}
			if a.Name != "" {
				return n.related(node, podVertex, a)
			}
			return false, "can only list/watch pods with spec.nodeName field selector"
		case "create", "delete":
			return true, ""
		}
	case "status":
		return a.Verb == "update" || a.Verb == "patch", ""
	case "eviction":
		return a.Verb == "create", ""
	}
	return false, ""
}
