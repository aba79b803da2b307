package cert

import (
	"context"
	"errors"
	"fmt"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"flagship/controller-manager/internal/loop"
	"flagship/internal/kube"
)

// How long requests for pods' certificates are kept, whatever became of them, and how often that is looked at, as
// upstream's: every exchange between a kubelet and a signer is over sooner.
const (
	keepPodRequest  = 15 * time.Minute
	lookPodRequests = 5 * time.Minute
)

func podRequestOver(r *certificatesv1.PodCertificateRequest, now time.Time) bool {
	return !now.Before(r.CreationTimestamp.Add(keepPodRequest))
}

// NewPodRequestCleaner returns the podcertificaterequest-cleaner-controller.
func NewPodRequestCleaner(d loop.Deps) *loop.Controller {
	src := d.Sources.PodCertificateRequests()
	ctl := d.Controller(1, nil)
	loop.Need(ctl, src)
	ctl.Every(lookPodRequests, func(ctx context.Context) error {
		var errs []error
		for _, r := range src.All() {
			if !podRequestOver(r, d.Now()) {
				continue
			}
			api := kube.For[certificatesv1.PodCertificateRequest, certificatesv1.PodCertificateRequestList](d.Client,
				certificatesv1.SchemeGroupVersion.WithResource("podcertificaterequests"), r.Namespace)
			err := api.Delete(ctx, r.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &r.UID}})
			if err != nil && !apierrors.IsNotFound(err) {
				errs = append(errs, fmt.Errorf("unable to delete PodCertificateRequest %q: %w", r.Namespace+"/"+r.Name, err))
				continue
			}
			d.Decide("PodCertificateRequest", r.Namespace, r.Name, r.UID, 0, "deleted: it is over")
		}
		return errors.Join(errs...)
	})
	return ctl
}
