package resource

import (
	"encoding/json"
	"fmt"
	"reflect"
	"regexp"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	netutils "k8s.io/utils/net"
)

func (c *checks) dataKey(p *field.Path, k string) {
	c.invalid(p.Key(k), k, validation.IsConfigMapKey(k)...)
}

func validateConfigMap(m *corev1.ConfigMap) field.ErrorList {
	c := &checks{}
	size := 0
	for k, v := range m.Data {
		c.dataKey(root("data"), k)
		if _, ok := m.BinaryData[k]; ok {
			c.invalid(root("data").Key(k), k, "duplicate of key present in binaryData")
		}
		size += len(v)
	}
	for k, v := range m.BinaryData {
		c.dataKey(root("binaryData"), k)
		size += len(v)
	}
	if size > corev1.MaxSecretSize {
		c.list = append(c.list, field.TooLong(root(""), "", corev1.MaxSecretSize))
	}
	return c.list
}

const sealed = "field is immutable when `immutable` is set"

func set2(b *bool) bool { return b != nil && *b }

func validateConfigMapUpdate(m, old *corev1.ConfigMap) field.ErrorList {
	c := &checks{}
	if set2(old.Immutable) {
		if !set2(m.Immutable) {
			c.forbidden(root("immutable"), sealed)
		}
		if !reflect.DeepEqual(m.Data, old.Data) {
			c.forbidden(root("data"), sealed)
		}
		if !reflect.DeepEqual(m.BinaryData, old.BinaryData) {
			c.forbidden(root("binaryData"), sealed)
		}
	}
	c.add(validateConfigMap(m))
	return c.list
}

func validateSecret(s *corev1.Secret) field.ErrorList {
	c := &checks{}
	data, size := root("data"), 0
	for k, v := range s.Data {
		c.dataKey(data, k)
		size += len(v)
	}
	if size > corev1.MaxSecretSize {
		c.list = append(c.list, field.TooLong(data, "", corev1.MaxSecretSize))
	}
	need := func(keys ...string) {
		for _, k := range keys {
			if _, ok := s.Data[k]; !ok {
				c.required(data.Key(k), "")
			}
		}
	}
	document := func(k string) {
		v, ok := s.Data[k]
		if !ok {
			c.required(data.Key(k), "")
			return
		}
		var m map[string]any
		if err := json.Unmarshal(v, &m); err != nil {
			c.invalid(data.Key(k), "<secret contents redacted>", err.Error())
		}
	}
	switch s.Type {
	case corev1.SecretTypeServiceAccountToken:
		c.needed(root("metadata", "annotations").Key(corev1.ServiceAccountNameKey), s.Annotations[corev1.ServiceAccountNameKey])
	case corev1.SecretTypeDockercfg:
		document(corev1.DockerConfigKey)
	case corev1.SecretTypeDockerConfigJson:
		document(corev1.DockerConfigJsonKey)
	case corev1.SecretTypeBasicAuth:
		_, user := s.Data[corev1.BasicAuthUsernameKey]
		_, password := s.Data[corev1.BasicAuthPasswordKey]
		if !user && !password {
			need(corev1.BasicAuthUsernameKey, corev1.BasicAuthPasswordKey)
		}
	case corev1.SecretTypeSSHAuth:
		c.needed(data.Key(corev1.SSHAuthPrivateKey), string(s.Data[corev1.SSHAuthPrivateKey]))
	case corev1.SecretTypeTLS:
		need(corev1.TLSCertKey, corev1.TLSPrivateKeyKey)
	}
	return c.list
}

func validateSecretUpdate(s, old *corev1.Secret) field.ErrorList {
	c := &checks{}
	c.same(root("type"), s.Type, old.Type)
	if set2(old.Immutable) {
		if !set2(s.Immutable) {
			c.forbidden(root("immutable"), sealed)
		}
		if !reflect.DeepEqual(s.Data, old.Data) {
			c.forbidden(root("data"), sealed)
		}
	}
	c.add(validateSecret(s))
	return c.list
}

func validateNamespace(n *corev1.Namespace) field.ErrorList {
	c := &checks{}
	for _, f := range n.Spec.Finalizers {
		c.finalizer(root("spec", "finalizers"), string(f))
	}
	return c.list
}

func (c *checks) finalizer(p *field.Path, f string) {
	c.add(apivalidation.ValidateFinalizerName(f, p))
	c.standardFinalizer(p, f)
}

// standardFinalizer wants a finalizer without a domain to be the cluster's own.
func (c *checks) standardFinalizer(p *field.Path, f string) {
	if !strings.Contains(f, "/") && f != string(corev1.FinalizerKubernetes) && f != metav1.FinalizerOrphanDependents && f != metav1.FinalizerDeleteDependents {
		c.invalid(p, f, "name is neither a standard finalizer name nor is it fully qualified")
	}
}

func validateNamespaceUpdate(n, old *corev1.Namespace) field.ErrorList {
	c := &checks{}
	if !reflect.DeepEqual(n.Spec.Finalizers, old.Spec.Finalizers) {
		for i, f := range n.Spec.Finalizers {
			c.finalizer(root("spec", "finalizers").Index(i), string(f))
		}
	}
	return c.list
}

func validateNamespaceStatus(n, _ *corev1.Namespace) field.ErrorList {
	c := &checks{}
	at := root("status", "Phase")
	if n.DeletionTimestamp.IsZero() && n.Status.Phase != corev1.NamespaceActive {
		c.invalid(at, n.Status.Phase, "may only be 'Active' if `deletionTimestamp` is empty")
	} else if !n.DeletionTimestamp.IsZero() && n.Status.Phase != corev1.NamespaceTerminating {
		c.invalid(at, n.Status.Phase, "may only be 'Terminating' if `deletionTimestamp` is not empty")
	}
	return c.list
}

func validateNode(n *corev1.Node) field.ErrorList {
	c := &checks{}
	c.taints(n.Spec.Taints, root("metadata", "taints"))
	c.nodeResources(n)
	at := root("spec", "podCIDRs")
	for i, v := range n.Spec.PodCIDRs {
		c.add(validation.IsValidCIDRForLegacyField(at.Index(i), v, true, nil))
	}
	if len(n.Spec.PodCIDRs) > 1 {
		ok, err := netutils.IsDualStackCIDRStrings(n.Spec.PodCIDRs)
		if err != nil {
			c.list = append(c.list, field.InternalError(at, fmt.Errorf("invalid PodCIDRs. failed to check with dual stack with error:%w", err)))
		}
		if !ok || len(n.Spec.PodCIDRs) > 2 {
			c.invalid(at, n.Spec.PodCIDRs, "may specify no more than one CIDR for each IP family")
		}
	}
	return c.list
}

// declaredFeature is a feature's name in upper camel case, with parts.
var declaredFeature = regexp.MustCompile(`^[A-Z][a-zA-Z0-9]*(\/[a-zA-Z][a-zA-Z0-9]*)*$`)

func (c *checks) declaredFeatures(list []string, p *field.Path) {
	const longest = 253
	for i, f := range list {
		if len(f) > longest {
			c.invalid(p.Index(i), f, fmt.Sprintf("invalid feature name %q: must be no more than %d characters", f, longest))
		} else if !declaredFeature.MatchString(f) {
			c.invalid(p.Index(i), f, fmt.Sprintf("invalid feature name %q: must start with an UpperCamelCase segment, with subsequent segments separated by '/' (e.g., MyFeature or MyFeature/mySubFeature), and contain only alphanumeric characters and slashes", f))
		}
		switch {
		case i == 0:
		case list[i-1] == f:
			c.duplicate(p.Index(i), f)
		case list[i-1] > f:
			c.invalid(p.Index(i), f, "list must be sorted alphabetically")
		}
	}
}

func (c *checks) taints(list []corev1.Taint, p *field.Path) {
	seen := sets.Set[string]{}
	for i, t := range list {
		at := p.Index(i)
		c.labelName(at.Child("key"), t.Key)
		if msgs := validation.IsValidLabelValue(t.Value); len(msgs) > 0 {
			c.invalid(at.Child("value"), t.Value, strings.Join(msgs, ";"))
		}
		c.taintEffect(at.Child("effect"), t.Effect)
		key := string(t.Effect) + " " + t.Key
		if seen.Has(key) {
			e := field.Duplicate(at, shown(t))
			e.Detail = "taints must be unique by key and effect pair"
			c.list = append(c.list, e)
		}
		seen.Insert(key)
	}
}

func (c *checks) nodeResources(n *corev1.Node) {
	c.declaredFeatures(n.Status.DeclaredFeatures, root("status", "declaredFeatures"))
	for k, q := range n.Status.Capacity {
		c.resourceQuantity(k, q, root("status", "capacity", string(k)))
	}
	for k, q := range n.Status.Allocatable {
		c.resourceQuantity(k, q, root("status", "allocatable", string(k)))
	}
}

// validateNodeChange checks an update of the node itself; of its status, the rest was checked before.
func validateNodeChange(n, old *corev1.Node) field.ErrorList {
	return append(validateNode(n), validateNodeUpdate(n, old)...)
}

func validateNodeUpdate(n, old *corev1.Node) field.ErrorList {
	c := &checks{}
	c.nodeResources(n)
	seen := map[corev1.NodeAddress]bool{}
	for i, a := range n.Status.Addresses {
		if seen[a] {
			c.duplicate(root("status", "addresses").Index(i), shown(a))
		}
		seen[a] = true
	}
	const cidr = "node updates may not change podCIDR except from \"\" to valid"
	if was := old.Spec.PodCIDRs; len(was) > 0 {
		if len(was) != len(n.Spec.PodCIDRs) {
			c.forbidden(root("spec", "podCIDRs"), cidr)
		} else {
			for i := range was {
				if was[i] != n.Spec.PodCIDRs[i] {
					c.forbidden(root("spec", "podCIDRs"), cidr)
				}
			}
		}
	}
	if was, is := old.Spec.ProviderID, n.Spec.ProviderID; was != "" && is != was {
		detail := "field cannot be modified once set"
		if is == "" {
			detail = "field cannot be cleared once set"
		}
		c.invalid(root("spec", "providerID"), nil, detail)
	}
	c.taints(n.Spec.Taints, root("metadata", "taints"))
	if n.Spec.DoNotUseExternalID != old.Spec.DoNotUseExternalID {
		c.forbidden(root("spec", "externalID"), "may not be updated")
	}
	return c.list
}
