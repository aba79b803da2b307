package admission

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"flagship/apiserver/internal/authn"
)

// ServiceAccount gives each pod a service account, the account's pull secrets and a volume with its token.
type ServiceAccount struct {
	operations
	get    func(ctx context.Context, namespace, name string) (*corev1.ServiceAccount, error)
	suffix func(n int) string
}

const (
	defaultServiceAccount = "default"
	tokenMountPath        = "/var/run/secrets/kubernetes.io/serviceaccount"
	tokenVolumePrefix     = "kube-api-access-"
	enforceMountable      = "kubernetes.io/enforce-mountable-secrets"
)

// Mutate implements Mutator.
func (p *ServiceAccount) Mutate(ctx context.Context, a *Attributes) error {
	if a.Operation != Create || !a.Is("", "pods", "") {
		return nil
	}
	pod, err := object[*corev1.Pod](a)
	if err != nil || isMirror(pod) {
		return err
	}
	if pod.Spec.ServiceAccountName == "" {
		pod.Spec.ServiceAccountName = defaultServiceAccount
		pod.Spec.DeprecatedServiceAccount = defaultServiceAccount
	}
	sa, err := p.account(ctx, a.Namespace, pod.Spec.ServiceAccountName)
	if err != nil {
		return forbid(a, "error looking up service account %s/%s: %w", a.Namespace, pod.Spec.ServiceAccountName, err)
	}
	if automount(sa, pod) {
		p.mountToken(pod)
	}
	if len(pod.Spec.ImagePullSecrets) == 0 && len(sa.ImagePullSecrets) > 0 {
		pod.Spec.ImagePullSecrets = slices.Clone(sa.ImagePullSecrets)
	}
	return nil
}

func isMirror(pod *corev1.Pod) bool {
	_, ok := pod.Annotations[corev1.MirrorPodAnnotationKey]
	return ok
}

// account waits for the default account of a namespace, which a controller creates after the namespace.
func (p *ServiceAccount) account(ctx context.Context, namespace, name string) (*corev1.ServiceAccount, error) {
	attempts := 1
	if name == defaultServiceAccount {
		attempts = 10
	}
	for i := 0; ; i++ {
		sa, err := p.get(ctx, namespace, name)
		if !apierrors.IsNotFound(err) {
			return sa, err
		}
		if i == attempts {
			return nil, apierrors.NewNotFound(corev1.Resource("serviceaccount"), name)
		}
		if err := wait(ctx, 150*time.Millisecond); err != nil {
			return nil, err
		}
	}
}

func automount(sa *corev1.ServiceAccount, pod *corev1.Pod) bool {
	if pod.Spec.AutomountServiceAccountToken != nil {
		return *pod.Spec.AutomountServiceAccountToken
	}
	return sa.AutomountServiceAccountToken == nil || *sa.AutomountServiceAccountToken
}

func (p *ServiceAccount) mountToken(pod *corev1.Pod) {
	name := ""
	for _, v := range pod.Spec.Volumes {
		if strings.HasPrefix(v.Name, tokenVolumePrefix) {
			name = v.Name
			break
		}
	}
	exists := name != ""
	if !exists {
		name = tokenVolumePrefix + p.suffix(5)
	}
	mounted := false
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			c := &list[i]
			if !slices.ContainsFunc(c.VolumeMounts, func(m corev1.VolumeMount) bool { return m.MountPath == tokenMountPath }) {
				c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: name, ReadOnly: true, MountPath: tokenMountPath})
				mounted = true
			}
		}
	}
	if mounted && !exists {
		pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{Projected: tokenSource()}})
	}
}

func tokenSource() *corev1.ProjectedVolumeSource {
	mode, seconds := corev1.ProjectedVolumeSourceDefaultMode, int64(authn.WarnOnlyExpirationSeconds)
	return &corev1.ProjectedVolumeSource{DefaultMode: &mode, Sources: []corev1.VolumeProjection{
		{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "token", ExpirationSeconds: &seconds}},
		{ConfigMap: &corev1.ConfigMapProjection{
			LocalObjectReference: corev1.LocalObjectReference{Name: "kube-root-ca.crt"},
			Items:                []corev1.KeyToPath{{Key: "ca.crt", Path: "ca.crt"}},
		}},
		{DownwardAPI: &corev1.DownwardAPIProjection{Items: []corev1.DownwardAPIVolumeFile{
			{Path: "namespace", FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: "metadata.namespace"}},
		}}},
	}}
}

// Validate implements Validator.
func (p *ServiceAccount) Validate(ctx context.Context, a *Attributes) error {
	if !a.Is("", "pods", "", "ephemeralcontainers") || (a.Operation != Create && a.Subresource == "") {
		return nil
	}
	pod, err := object[*corev1.Pod](a)
	if err != nil {
		return err
	}
	if a.Subresource == "" && isMirror(pod) {
		return mirrorPod(a, pod)
	}
	if pod.Spec.ServiceAccountName == "" {
		return forbid(a, "no service account specified for pod %s/%s", a.Namespace, pod.Name)
	}
	sa, err := p.account(ctx, a.Namespace, pod.Spec.ServiceAccountName)
	if err != nil {
		return forbid(a, "error looking up service account %s/%s: %w", a.Namespace, pod.Spec.ServiceAccountName, err)
	}
	if enforce, _ := strconv.ParseBool(sa.Annotations[enforceMountable]); enforce {
		if err := mountable(sa, pod, a.Subresource != ""); err != nil {
			return Forbidden(a, err)
		}
	}
	return nil
}

func mirrorPod(a *Attributes, pod *corev1.Pod) error {
	if pod.Spec.ServiceAccountName != "" {
		return forbid(a, "a mirror pod may not reference service accounts")
	}
	if what := references(pod); what == "secrets" {
		return forbid(a, "a mirror pod may not reference secrets")
	}
	for _, v := range pod.Spec.Volumes {
		if v.Projected != nil && slices.ContainsFunc(v.Projected.Sources, func(s corev1.VolumeProjection) bool { return s.ServiceAccountToken != nil }) {
			return forbid(a, "a mirror pod may not use ServiceAccountToken volume projections")
		}
	}
	return nil
}

// mountable checks that a pod refers to no Secret but its account's.
func mountable(sa *corev1.ServiceAccount, pod *corev1.Pod, ephemeral bool) error {
	has := func(name string) bool {
		return slices.ContainsFunc(sa.Secrets, func(r corev1.ObjectReference) bool { return r.Name == name })
	}
	if ephemeral {
		for _, c := range pod.Spec.EphemeralContainers {
			k := corev1.Container(c.EphemeralContainerCommon)
			if err := mountableContainer(sa, "ephemeral container", &k, has); err != nil {
				return err
			}
		}
		return nil
	}
	for _, v := range pod.Spec.Volumes {
		if v.Secret != nil && !has(v.Secret.SecretName) {
			return fmt.Errorf("volume with secret.secretName=\"%s\" is not allowed because service account %s does not reference that secret", v.Secret.SecretName, sa.Name)
		}
	}
	for i := range pod.Spec.InitContainers {
		if err := mountableContainer(sa, "init container", &pod.Spec.InitContainers[i], has); err != nil {
			return err
		}
	}
	for i := range pod.Spec.Containers {
		if err := mountableContainer(sa, "container", &pod.Spec.Containers[i], has); err != nil {
			return err
		}
	}
	for i, r := range pod.Spec.ImagePullSecrets {
		if !slices.Contains(sa.ImagePullSecrets, r) {
			return fmt.Errorf(`imagePullSecrets[%d].name="%s" is not allowed because service account %s does not reference that imagePullSecret`, i, r.Name, sa.Name)
		}
	}
	return nil
}

func mountableContainer(sa *corev1.ServiceAccount, kind string, c *corev1.Container, has func(string) bool) error {
	for _, e := range c.Env {
		if e.ValueFrom != nil && e.ValueFrom.SecretKeyRef != nil && !has(e.ValueFrom.SecretKeyRef.Name) {
			return fmt.Errorf("%s %s with envVar %s referencing secret.secretName=\"%s\" is not allowed because service account %s does not reference that secret",
				kind, c.Name, e.Name, e.ValueFrom.SecretKeyRef.Name, sa.Name)
		}
	}
	for _, e := range c.EnvFrom {
		if e.SecretRef != nil && !has(e.SecretRef.Name) {
			return fmt.Errorf("%s %s with envFrom referencing secret.secretName=\"%s\" is not allowed because service account %s does not reference that secret",
				kind, c.Name, e.SecretRef.Name, sa.Name)
		}
	}
	return nil
}
