package tenancy

import (
	"context"
	"fmt"
	"os"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"flagship/controller-manager/internal/loop"
)

// NewServiceAccount returns the serviceaccount-controller: every active namespace has a service account "default".
func NewServiceAccount(d loop.Deps) *loop.Controller {
	namespaces, accounts := d.Sources.Namespaces(), d.Sources.ServiceAccounts()
	ctl := d.Controller(1, func(ctx context.Context, name string) error {
		ns := namespaces.Get("", name)
		if ns == nil || ns.Status.Phase != corev1.NamespaceActive || accounts.Get(name, "default") != nil {
			return nil
		}
		_, err := loop.Core[corev1.ServiceAccount, corev1.ServiceAccountList](d, "serviceaccounts", name).Create(ctx,
			&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: name, Name: "default"}}, metav1.CreateOptions{})
		return unlessEnding(err)
	})
	loop.Watch(ctl, namespaces, loop.Own[corev1.Namespace])
	loop.Watch(ctl, accounts, func(e loop.Event[corev1.ServiceAccount]) []string {
		if e.New == nil && e.Old.Name == "default" {
			return []string{e.Old.Namespace}
		}
		return nil
	})
	return ctl
}

// unlessEnding drops the errors of a namespace that is there no more, and of an object that is there already.
func unlessEnding(err error) error {
	if apierrors.IsNotFound(err) || apierrors.IsAlreadyExists(err) || apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
		return nil
	}
	return err
}

const rootCAName, rootCAKey = "kube-root-ca.crt", "ca.crt"

// NewRootCA returns the root-ca-certificate-publisher-controller: every active namespace has a ConfigMap with the CA
// that the API server is trusted by. It returns nil where no file is given.
func NewRootCA(file string, d loop.Deps) (*loop.Controller, error) {
	if file == "" {
		return nil, nil
	}
	ca, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("--root-ca-file: %w", err)
	}
	namespaces, maps := d.Sources.Namespaces(), d.Sources.RootCAs()
	want := string(ca)
	ctl := d.Controller(1, func(ctx context.Context, name string) error {
		ns := namespaces.Get("", name)
		if ns == nil || ns.Status.Phase != corev1.NamespaceActive {
			return nil
		}
		api := loop.Core[corev1.ConfigMap, corev1.ConfigMapList](d, "configmaps", name)
		have := maps.Get(name, rootCAName)
		if have == nil {
			_, err := api.Create(ctx, &corev1.ConfigMap{
				ObjectMeta: metav1.ObjectMeta{
					Namespace: name, Name: rootCAName,
					Annotations: map[string]string{"kubernetes.io/description": rootCADescription},
				},
				Data: map[string]string{rootCAKey: want},
			}, metav1.CreateOptions{})
			return unlessEnding(err)
		}
		if len(have.Data) == 1 && have.Data[rootCAKey] == want && have.Annotations["kubernetes.io/description"] != "" {
			return nil
		}
		next := have.DeepCopy()
		next.Data = map[string]string{rootCAKey: want}
		if next.Annotations == nil {
			next.Annotations = map[string]string{}
		}
		next.Annotations["kubernetes.io/description"] = rootCADescription
		_, err := api.Update(ctx, next, metav1.UpdateOptions{})
		return unlessEnding(err)
	})
	loop.Watch(ctl, namespaces, loop.Own[corev1.Namespace])
	loop.Watch(ctl, maps, func(e loop.Event[corev1.ConfigMap]) []string { return []string{e.Now().Namespace} })
	return ctl, nil
}

const rootCADescription = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal service IP or kubernetes.default.svc. " +
	"No other usage is guaranteed across distributions of Kubernetes clusters."
