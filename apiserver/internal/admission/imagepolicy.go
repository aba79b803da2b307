package admission

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	imagepolicyv1alpha1 "k8s.io/api/imagepolicy/v1alpha1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/cache"
	"sigs.k8s.io/yaml"

	"flagship/apiserver/internal/review"
)

// ImagePolicy asks a server outside whether the images of a pod may run, by ImageReviews. It is off unless --enable-admission-plugins names it. See
// https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/#imagepolicywebhook.
type ImagePolicy struct {
	operations
	cfg    *imagePolicyConfig
	client *review.Client
	kept   *cache.LRUExpireCache
}

// imagePolicyConfig is its part of the admission configuration; times are in seconds, the backoff in milliseconds, -1 turns each off.
type imagePolicyConfig struct {
	KubeConfigFile string        `json:"kubeConfigFile"`
	AllowTTL       time.Duration `json:"allowTTL"`
	DenyTTL        time.Duration `json:"denyTTL"`
	RetryBackoff   time.Duration `json:"retryBackoff"`
	DefaultAllow   bool          `json:"defaultAllow"`
}

// maxImageAnswers bounds the answers that are kept.
const maxImageAnswers = 1024

// imagePolicyKeys begin the plugin's audit annotations.
const imagePolicyKeys = "imagepolicywebhook.image-policy.k8s.io/"

// failedOpenAnnotation marks a pod that was let in without an answer.
const failedOpenAnnotation = "alpha.image-policy.k8s.io/failed-open"

// imagePolicy reads the configuration, nil where there is none.
func (f Files) imagePolicy() (*imagePolicyConfig, error) {
	data := f["ImagePolicyWebhook"]
	if data == nil {
		return nil, nil
	}
	var c struct {
		ImagePolicy imagePolicyConfig `json:"imagePolicy"`
	}
	if err := yaml.Unmarshal(data, &c); err != nil {
		return nil, fmt.Errorf("ImagePolicyWebhook: %w", err)
	}
	for _, d := range []struct {
		value                      *time.Duration
		unit, least, most, missing time.Duration
	}{
		{&c.ImagePolicy.RetryBackoff, time.Millisecond, 1, 5 * time.Minute, 500 * time.Millisecond},
		{&c.ImagePolicy.AllowTTL, time.Second, time.Second, 30 * time.Minute, 5 * time.Minute},
		{&c.ImagePolicy.DenyTTL, time.Second, time.Second, 30 * time.Minute, 30 * time.Second},
	} {
		switch *d.value {
		case -1:
			*d.value = 0
		case 0:
			*d.value = d.missing
		default:
			if *d.value *= d.unit; *d.value < d.least || *d.value > d.most {
				return nil, fmt.Errorf("ImagePolicyWebhook: valid value is between %v and %v, got %v", d.least, d.most, *d.value)
			}
		}
	}
	return &c.ImagePolicy, nil
}

// Prepare reads the kubeconfig, since the plugin is to run.
//
// Errors: there is no configuration, or its kubeconfig cannot be read.
func (p *ImagePolicy) Prepare() error {
	if p.cfg == nil {
		return errors.New("ImagePolicyWebhook: no config specified")
	}
	client, err := review.NewClient(p.cfg.KubeConfigFile, review.DefaultTimeout)
	if err != nil {
		return fmt.Errorf("ImagePolicyWebhook: %w", err)
	}
	p.client, p.kept = client.Backoff(p.cfg.RetryBackoff), cache.NewLRUExpireCache(maxImageAnswers)
	return nil
}

// Validate implements Validator.
func (p *ImagePolicy) Validate(ctx context.Context, a *Attributes) error {
	if !a.Is("", "pods", "", "ephemeralcontainers") {
		return nil
	}
	pod, ok := a.Object.(*corev1.Pod)
	if !ok {
		return nil // a deletion
	}
	spec := imagepolicyv1alpha1.ImageReviewSpec{Namespace: a.Namespace, Annotations: map[string]string{}}
	image := func(name string) {
		spec.Containers = append(spec.Containers, imagepolicyv1alpha1.ImageReviewContainerSpec{Image: name})
	}
	if a.Subresource == "" {
		for _, list := range [][]corev1.Container{pod.Spec.Containers, pod.Spec.InitContainers} {
			for i := range list {
				image(list[i].Image)
			}
		}
	} else {
		for i := range pod.Spec.EphemeralContainers {
			image(pod.Spec.EphemeralContainers[i].Image)
		}
	}
	for k, v := range pod.Annotations {
		if strings.Contains(k, ".image-policy.k8s.io/") {
			spec.Annotations[k] = v
		}
	}
	status, err := p.ask(ctx, &spec)
	if err != nil {
		return p.unanswered(a, pod, err)
	}
	for k, v := range status.AuditAnnotations {
		a.Annotate(imagePolicyKeys+k, v)
	}
	switch {
	case status.Allowed:
		return nil
	case status.Reason != "":
		return forbid(a, "image policy webhook backend denied one or more images: %s", status.Reason)
	}
	return forbid(a, "one or more images rejected by webhook backend")
}

// unanswered decides where the server could not be asked.
func (p *ImagePolicy) unanswered(a *Attributes, pod *corev1.Pod, err error) error {
	if !p.cfg.DefaultAllow {
		return Forbidden(a, err)
	}
	a.Annotate(imagePolicyKeys+"failed-open", "true")
	if pod.Annotations == nil {
		pod.Annotations = map[string]string{}
	}
	pod.Annotations[failedOpenAnnotation] = "true"
	return nil
}

func (p *ImagePolicy) ask(ctx context.Context, spec *imagepolicyv1alpha1.ImageReviewSpec) (imagepolicyv1alpha1.ImageReviewStatus, error) {
	kind := metav1.TypeMeta{APIVersion: imagepolicyv1alpha1.SchemeGroupVersion.String(), Kind: "ImageReview"}
	in := imagepolicyv1alpha1.ImageReview{TypeMeta: kind, Spec: *spec}
	key, err := json.Marshal(spec)
	if err != nil {
		return in.Status, err
	}
	if kept, ok := p.kept.Get(string(key)); ok {
		return kept.(imagepolicyv1alpha1.ImageReviewStatus), nil
	}
	var out imagepolicyv1alpha1.ImageReview
	if err := p.client.Post(ctx, &in, &out, kind, nil); err != nil {
		return out.Status, err
	}
	ttl := p.cfg.DenyTTL
	if out.Status.Allowed {
		ttl = p.cfg.AllowTTL
	}
	if ttl > 0 {
		p.kept.Add(string(key), out.Status, ttl)
	}
	return out.Status, nil
}
