package admission

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	authenticationv1 "k8s.io/api/authentication/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"

	"flagship/apiserver/internal/authz"
)

// NodeRestriction keeps a kubelet to its own node, its own pods and what it may label.
type NodeRestriction struct {
	operations
	r     *Readers
	authz authz.Authorizer
}

// Mutate implements Mutator: like upstream's, the checks run before those of later mutating plugins.
func (p *NodeRestriction) Mutate(ctx context.Context, a *Attributes) error {
	node, ok := authz.NodeName(a.User)
	if !ok {
		return nil
	}
	if node == "" {
		return forbid(a, "could not determine node from user %q", a.User.Name)
	}
	switch a.Resource.Group + "/" + a.Resource.Resource {
	case "/pods":
		return p.pod(ctx, a, node)
	case "/nodes":
		return p.node(a, node)
	case "/persistentvolumeclaims":
		if a.Subresource != "status" {
			return forbid(a, "may only update PVC status")
		}
		return claimStatus(a, node)
	case "/serviceaccounts":
		if a.Operation == Create && a.Subresource == "token" {
			return p.token(ctx, a, node)
		}
	case "coordination.k8s.io/leases":
		return lease(a, node)
	case "storage.k8s.io/csinodes":
		return csiNode(a, node)
	case "resource.k8s.io/resourceslices":
		return resourceSlice(a, node)
	case "certificates.k8s.io/certificatesigningrequests":
		return nodeCSR(a, node)
	case "certificates.k8s.io/podcertificaterequests":
		return p.podCertificate(ctx, a, node)
	}
	return nil
}

func (p *NodeRestriction) pod(ctx context.Context, a *Attributes, node string) error {
	switch a.Subresource {
	case "":
		switch a.Operation {
		case Create:
			return p.mirrorPod(ctx, a, node)
		case Delete:
			return p.ownPod(ctx, a, a.Name, fmt.Sprintf("node %q can only delete pods with spec.nodeName set to itself", node), node)
		}
		return forbid(a, "unexpected operation %q, node %q can only create and delete mirror pods", a.Operation, node)
	case "status":
		return podStatus(a, node)
	case "eviction":
		if a.Operation != Create {
			return forbid(a, "unexpected operation %s", a.Operation)
		}
		name := a.Name
		if e, ok := a.Object.(*policyv1.Eviction); ok && name == "" {
			name = e.Name
		}
		if name == "" {
			return forbid(a, "could not determine pod from request data")
		}
		return p.ownPod(ctx, a, name, fmt.Sprintf("node %s can only evict pods with spec.nodeName set to itself", node), node)
	}
	return forbid(a, "unexpected pod subresource %q, only 'status' and 'eviction' are allowed", a.Subresource)
}

func (p *NodeRestriction) ownPod(ctx context.Context, a *Attributes, name, refusal, node string) error {
	pod, err := p.r.Pod(ctx, a.Namespace, name)
	switch {
	case apierrors.IsNotFound(err):
		return err
	case err != nil:
		return Forbidden(a, err)
	case pod.Spec.NodeName != node:
		return Forbidden(a, errors.New(refusal))
	}
	return nil
}

func (p *NodeRestriction) mirrorPod(ctx context.Context, a *Attributes, node string) error {
	pod, err := object[*corev1.Pod](a)
	switch {
	case err != nil:
		return err
	case !isMirror(pod):
		return forbid(a, "pod does not have %q annotation, node %q can only create mirror pods", corev1.MirrorPodAnnotationKey, node)
	case pod.Spec.NodeName != node:
		return forbid(a, "node %q can only create pods with spec.nodeName set to itself", node)
	case len(pod.OwnerReferences) > 1:
		return forbid(a, "node %q can only create pods with a single owner reference set to itself", node)
	case len(pod.OwnerReferences) == 0:
		return forbid(a, "node %q can only create pods with an owner reference set to itself", node)
	}
	owner := pod.OwnerReferences[0]
	switch {
	case owner.APIVersion != "v1" || owner.Kind != "Node" || owner.Name != node:
		return forbid(a, "node %q can only create pods with an owner reference set to itself", node)
	case owner.Controller == nil || !*owner.Controller:
		return forbid(a, "node %q can only create pods with a controller owner reference set to itself", node)
	case owner.BlockOwnerDeletion != nil && *owner.BlockOwnerDeletion:
		return forbid(a, "node %q must not set blockOwnerDeletion on an owner reference", node)
	}
	n, err := p.r.Node(ctx, node)
	switch {
	case apierrors.IsNotFound(err):
		return err
	case err != nil:
		return forbid(a, "error looking up node %s to verify uid: %v", node, err)
	case n.UID != owner.UID:
		return forbid(a, "node %s UID mismatch: expected %s got %s", node, owner.UID, n.UID)
	}
	if what := references(pod); what != "" {
		return forbid(a, "node %q can not create pods that reference %s", node, what)
	}
	return nil
}

func podStatus(a *Attributes, node string) error {
	if a.Operation != Update {
		return forbid(a, "unexpected operation %q", a.Operation)
	}
	old, err := oldObject[*corev1.Pod](a)
	if err != nil {
		return err
	}
	pod, err := object[*corev1.Pod](a)
	switch {
	case err != nil:
		return err
	case old.Spec.NodeName != node:
		return forbid(a, "node %q can only update pod status for pods with spec.nodeName set to itself", node)
	case !maps.Equal(old.Labels, pod.Labels):
		return forbid(a, "node %q cannot update labels through pod status", node)
	case !equality.Semantic.DeepEqual(old.Status.ResourceClaimStatuses, pod.Status.ResourceClaimStatuses):
		return forbid(a, "node %q cannot update resource claim statues", node)
	case !equality.Semantic.DeepEqual(old.Status.ExtendedResourceClaimStatus, pod.Status.ExtendedResourceClaimStatus):
		return forbid(a, "node %q cannot update extended resource claim status", node)
	}
	return nil
}

func (p *NodeRestriction) node(a *Attributes, node string) error {
	name := a.Name
	if name == "" {
		name = objectName(a)
	}
	if name != node {
		return forbid(a, "node %q is not allowed to modify node %q", node, name)
	}
	switch a.Operation {
	case Create:
		n, err := object[*corev1.Node](a)
		if err != nil {
			return err
		}
		if n.Spec.ConfigSource != nil {
			return forbid(a, "node %q is not allowed to create pods with a non-nil configSource", node)
		}
		if bad := forbiddenLabels(n.Labels, nil); len(bad) > 0 {
			return forbid(a, "node %q is not allowed to set the following labels: %s", node, strings.Join(bad, ", "))
		}
	case Update:
		n, err := object[*corev1.Node](a)
		if err != nil {
			return err
		}
		old, err := oldObject[*corev1.Node](a)
		switch {
		case err != nil:
			return err
		case n.Spec.ConfigSource != nil && !equality.Semantic.DeepEqual(n.Spec.ConfigSource, old.Spec.ConfigSource):
			return forbid(a, "node %q is not allowed to update configSource to a new non-nil configSource", node)
		case !equality.Semantic.DeepEqual(n.Spec.Taints, old.Spec.Taints):
			return forbid(a, "node %q is not allowed to modify taints", node)
		case !equality.Semantic.DeepEqual(n.OwnerReferences, old.OwnerReferences):
			return forbid(a, "node %q is not allowed to modify ownerReferences", node)
		}
		if bad := forbiddenLabels(n.Labels, old.Labels); len(bad) > 0 {
			return forbid(a, "is not allowed to modify labels: %s", strings.Join(bad, ", "))
		}
	}
	return nil
}

// forbiddenLabels lists, sorted, the labels that differ and that are not for a kubelet to set.
func forbiddenLabels(now, before map[string]string) []string {
	var out []string
	for _, m := range []map[string]string{now, before} {
		for k := range m {
			v, ok := now[k]
			w, had := before[k]
			if (ok == had && v == w) || slices.Contains(out, k) {
				continue
			}
			if inNamespace(k, corev1.LabelNamespaceNodeRestriction) ||
				(inNamespace(k, "kubernetes.io") || inNamespace(k, "k8s.io")) && !kubeletLabel(k) {
				out = append(out, k)
			}
		}
	}
	slices.Sort(out)
	return out
}

func inNamespace(label, namespace string) bool {
	ns, _, ok := strings.Cut(label, "/")
	return ok && (ns == namespace || strings.HasSuffix(ns, "."+namespace))
}

// kubeletLabel says whether a kubelet may set a label of Kubernetes' own namespaces.
func kubeletLabel(key string) bool {
	switch key {
	case corev1.LabelHostname, corev1.LabelTopologyZone, corev1.LabelTopologyRegion, corev1.LabelFailureDomainBetaZone,
		corev1.LabelFailureDomainBetaRegion, corev1.LabelInstanceType, corev1.LabelInstanceTypeStable, corev1.LabelOSStable,
		corev1.LabelArchStable, "beta.kubernetes.io/os", "beta.kubernetes.io/arch":
		return true
	}
	return inNamespace(key, corev1.LabelNamespaceSuffixKubelet) || inNamespace(key, corev1.LabelNamespaceSuffixNode)
}

func claimStatus(a *Attributes, node string) error {
	if a.Operation != Update {
		return forbid(a, "unexpected operation %q", a.Operation)
	}
	old, err := oldObject[*corev1.PersistentVolumeClaim](a)
	if err != nil {
		return err
	}
	pvc, err := object[*corev1.PersistentVolumeClaim](a)
	if err != nil {
		return err
	}
	old, pvc = old.DeepCopy(), pvc.DeepCopy()
	for _, c := range []*corev1.PersistentVolumeClaim{old, pvc} {
		c.ResourceVersion, c.ManagedFields = "", nil
		c.Status.Capacity, c.Status.Conditions = nil, nil
		c.Status.AllocatedResources, c.Status.AllocatedResourceStatuses = nil, nil
	}
	if !equality.Semantic.DeepEqual(old, pvc) {
		return forbid(a, "node %q is not allowed to update fields other than status.quantity and status.conditions", node)
	}
	return nil
}

func (p *NodeRestriction) token(ctx context.Context, a *Attributes, node string) error {
	tr, err := object[*authenticationv1.TokenRequest](a)
	if err != nil {
		return err
	}
	ref := tr.Spec.BoundObjectRef
	switch {
	case ref == nil || ref.APIVersion != "v1" || ref.Kind != "Pod" || ref.Name == "":
		return forbid(a, "node requested token not bound to a pod")
	case ref.UID == "":
		return forbid(a, "node requested token with a pod binding without a uid")
	}
	pod, err := p.r.Pod(ctx, a.Namespace, ref.Name)
	switch {
	case apierrors.IsNotFound(err):
		return err
	case err != nil:
		return Forbidden(a, err)
	case ref.UID != pod.UID:
		return forbid(a, "the UID in the bound object reference (%s) does not match the UID in record. The object might have been deleted and then recreated", ref.UID)
	case pod.Spec.NodeName != node:
		return forbid(a, "node requested token bound to a pod scheduled on a different node")
	}
	return p.audience(ctx, a, tr, pod)
}

// audience checks that the pod uses tokens of the audience, or that the node is authorized for it.
func (p *NodeRestriction) audience(ctx context.Context, a *Attributes, tr *authenticationv1.TokenRequest, pod *corev1.Pod) error {
	wanted := ""
	switch len(tr.Spec.Audiences) {
	case 0:
	case 1:
		wanted = tr.Spec.Audiences[0]
	default:
		return forbid(a, "node may only request 0 or 1 audiences")
	}
	found, err := p.podUses(ctx, pod, wanted)
	if found {
		return nil
	}
	if err != nil {
		return forbid(a, "error validating audience %q: %w", wanted, err)
	}
	if p.may(ctx, a, "request-serviceaccounts-token-audience", wanted, a.Name) {
		return nil
	}
	return forbid(a, "%s is not authorized to request tokens for audience %q", a.User.Name, wanted)
}

func (p *NodeRestriction) may(ctx context.Context, a *Attributes, verb, resource, name string) bool {
	d, _, _ := p.authz.Authorize(ctx, authz.Attributes{
		User: a.User, Verb: verb, ResourceRequest: true, APIGroup: a.Resource.Group, APIVersion: a.Resource.Version,
		Resource: resource, Namespace: a.Namespace, Name: name,
	})
	return d == authz.Allow
}

func (p *NodeRestriction) podUses(ctx context.Context, pod *corev1.Pod, audience string) (bool, error) {
	var errs []error
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		driver, err := "", error(nil)
		switch {
		case v.Projected != nil:
			for _, s := range v.Projected.Sources {
				if s.ServiceAccountToken != nil && s.ServiceAccountToken.Audience == audience {
					return true, nil
				}
			}
		case v.Ephemeral != nil:
			driver, err = p.claimDriver(ctx, pod.Namespace, pod.Name+"-"+v.Name)
		case v.PersistentVolumeClaim != nil:
			driver, err = p.claimDriver(ctx, pod.Namespace, v.PersistentVolumeClaim.ClaimName)
		case v.CSI != nil:
			driver = v.CSI.Driver
		}
		if err == nil && driver != "" {
			d, getErr := p.r.CSIDriver(ctx, driver)
			if err = getErr; err == nil {
				for _, t := range d.Spec.TokenRequests {
					if t.Audience == audience {
						return true, nil
					}
				}
			}
		}
		errs = append(errs, err)
	}
	return false, errors.Join(errs...)
}

func (p *NodeRestriction) claimDriver(ctx context.Context, namespace, claim string) (string, error) {
	pvc, err := p.r.Claim(ctx, namespace, claim)
	if err != nil {
		return "", err
	}
	pv, err := p.r.Volume(ctx, pvc.Spec.VolumeName)
	if err != nil || pv.Spec.CSI == nil {
		return "", err
	}
	return pv.Spec.CSI.Driver, nil
}

func lease(a *Attributes, node string) error {
	if a.Namespace != corev1.NamespaceNodeLease {
		return forbid(a, "can only access leases in the %q system namespace", corev1.NamespaceNodeLease)
	}
	name := a.Name
	if a.Operation == Create {
		l, err := object[*coordinationv1.Lease](a)
		if err != nil {
			return err
		}
		name = l.Name
	}
	if name != node {
		return forbid(a, "can only access node lease with the same name as the requesting node")
	}
	return nil
}

func csiNode(a *Attributes, node string) error {
	name := a.Name
	if a.Operation == Create {
		m, err := meta.Accessor(a.Object)
		if err != nil {
			return forbid(a, "unable to access the object name")
		}
		name = m.GetName()
	}
	switch {
	case name != node:
		return forbid(a, "can only access CSINode with the same name as the requesting node")
	case a.Subresource == "status":
		return forbid(a, "CSIVolumeHealth feature gate is disabled")
	}
	return nil
}

func resourceSlice(a *Attributes, node string) error {
	o, verb := a.Object, "create"
	switch a.Operation {
	case Delete:
		o, verb = a.OldObject, "delete"
	case Create:
	default:
		return nil
	}
	s, ok := o.(*resourcev1.ResourceSlice)
	if !ok {
		return forbid(a, "unexpected type %T", o)
	}
	if s.Spec.NodeName == nil || *s.Spec.NodeName != node {
		return forbid(a, "can only %s ResourceSlice with the same NodeName as the requesting node", verb)
	}
	return nil
}

func nodeCSR(a *Attributes, node string) error {
	if a.Operation != Create {
		return nil
	}
	csr, err := object[*certificatesv1.CertificateSigningRequest](a)
	if err != nil {
		return err
	}
	if csr.Spec.SignerName != certificatesv1.KubeletServingSignerName && csr.Spec.SignerName != certificatesv1.KubeAPIServerClientKubeletSignerName {
		return nil
	}
	req, err := parseCSR(csr.Spec.Request)
	if err != nil {
		return forbid(a, "unable to parse csr: %w", err)
	}
	if req.Subject.CommonName != "system:node:"+node {
		return forbid(a, "can only create a node CSR with CN=system:node:%s", node)
	}
	return nil
}

// podCertificate checks that a node asks for certificates only for its own pods. What may be due to a cache that is behind
// is not forbidden, so that the node tries again.
func (p *NodeRestriction) podCertificate(ctx context.Context, a *Attributes, node string) error {
	if a.Operation != Create {
		return forbid(a, "unexpected operation %v", a.Operation)
	}
	if a.Subresource != "" {
		return forbid(a, "unexpected subresource %v", a.Subresource)
	}
	req, err := object[*certificatesv1.PodCertificateRequest](a)
	if err != nil {
		return err
	}
	s := &req.Spec
	if string(s.NodeName) != node {
		return forbid(a, "PodCertificateRequest.Spec.NodeName=%q, which is not the requesting node %q", s.NodeName, node)
	}
	who := a.Namespace + "/" + s.PodName
	unread := func(what, name string, err error) error {
		err = fmt.Errorf("while retrieving %s %q named in the PodCertificateRequest: %w", what, name, err)
		if apierrors.IsNotFound(err) {
			return err
		}
		return Forbidden(a, err)
	}
	switch n, err := p.r.Node(ctx, node); {
	case err != nil:
		return unread("node", node, err)
	case n.UID != s.NodeUID:
		return fmt.Errorf("PodCertificateRequest for pod %q names node UID %q, inconsistent with the running node (%q)", who, s.NodeUID, n.UID)
	}
	pod, err := p.r.Pod(ctx, a.Namespace, s.PodName)
	switch {
	case err != nil:
		return unread("pod", who, err)
	case s.PodUID != pod.UID:
		return fmt.Errorf("PodCertificateRequest for pod %q contains pod UID (%q) which differs from running pod %q", who, s.PodUID, pod.UID)
	case pod.Spec.NodeName != node:
		return forbid(a, "pod %q is not running on node %q named in the PodCertificateRequest", who, s.NodeName)
	case isMirror(pod):
		return forbid(a, "pod %q is a mirror pod", who)
	case s.ServiceAccountName != pod.Spec.ServiceAccountName:
		return forbid(a, "PodCertificateRequest for pod %q contains serviceAccountName (%q) that differs from running pod (%q)", who, s.ServiceAccountName, pod.Spec.ServiceAccountName)
	}
	switch sa, err := p.r.ServiceAccount(ctx, a.Namespace, s.ServiceAccountName); {
	case err != nil:
		return unread("service account", a.Namespace+"/"+s.ServiceAccountName, err)
	case sa.UID != s.ServiceAccountUID:
		return fmt.Errorf("PodCertificateRequest for pod %q names service account UID %q, which differs from the running service account (%q)", who, s.ServiceAccountUID, sa.UID)
	}
	return p.podSigner(ctx, a, pod, req)
}

// podSigner wants a reason for a pod's node to ask this signer: the pod shows its certificate, or somebody allowed it.
func (p *NodeRestriction) podSigner(ctx context.Context, a *Attributes, pod *corev1.Pod, req *certificatesv1.PodCertificateRequest) error {
	for _, v := range pod.Spec.Volumes {
		if v.Projected != nil && slices.ContainsFunc(v.Projected.Sources, func(s corev1.VolumeProjection) bool {
			return s.PodCertificate != nil && s.PodCertificate.SignerName == req.Spec.SignerName
		}) {
			return nil
		}
	}
	if p.may(ctx, a, "request-serviceaccounts-podcertificate-signer", strings.ReplaceAll(req.Spec.SignerName, "/", ":"), req.Spec.ServiceAccountName) {
		return nil
	}
	return forbid(a, "pod %q does not mount a podCertificate projected volume for signer %q", a.Namespace+"/"+req.Spec.PodName, req.Spec.SignerName)
}
