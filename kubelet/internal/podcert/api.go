package podcert

import (
	"context"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"

	"flagship/internal/kube"
)

// Client asks the API server with the kubelet's own rights.
type Client struct{ c *kube.Client }

// NewClient returns a Client; the scheme of c must hold certificates.k8s.io/v1 and service accounts.
func NewClient(c *kube.Client) *Client { return &Client{c} }

// Create makes a request.
func (a *Client) Create(ctx context.Context, req *certificatesv1.PodCertificateRequest) (*certificatesv1.PodCertificateRequest, error) {
	return kube.For[certificatesv1.PodCertificateRequest, certificatesv1.PodCertificateRequestList](a.c,
		certificatesv1.SchemeGroupVersion.WithResource("podcertificaterequests"), req.Namespace).Create(ctx, req, metav1.CreateOptions{})
}

// AccountUID reads the UID of a service account.
func (a *Client) AccountUID(ctx context.Context, namespace, name string) (types.UID, error) {
	sa, err := kube.For[corev1.ServiceAccount, corev1.ServiceAccountList](a.c, corev1.SchemeGroupVersion.WithResource("serviceaccounts"), namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return "", err
	}
	return sa.UID, nil
}

// Requests follows the requests of a node, without their keys, once it is run.
func (a *Client) Requests(node string) cache.SharedIndexInformer {
	return kube.NewInformer[certificatesv1.PodCertificateRequest, certificatesv1.PodCertificateRequestList](a.c,
		certificatesv1.SchemeGroupVersion.WithResource("podcertificaterequests"), kube.InformerOptions{
			FieldSelector: fields.OneTermEqualSelector("spec.nodeName", node).String(),
			Transform: func(obj any) (any, error) {
				if r, ok := obj.(*certificatesv1.PodCertificateRequest); ok {
					r.Spec.StubPKCS10Request = nil
				}
				return obj, nil
			},
		})
}
