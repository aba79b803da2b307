package admission

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// NamespaceLifecycle refuses new content in a namespace that does not exist or is being deleted, and the deletion of
// the namespaces that a cluster cannot do without.
type NamespaceLifecycle struct {
	operations
	get func(ctx context.Context, name string) (*corev1.Namespace, error)
}

// missingNamespaceWait is given to a namespace that was created a moment ago by another API server.
const missingNamespaceWait = 50 * time.Millisecond

// Mutate implements Mutator: it is the first of all checks.
func (p *NamespaceLifecycle) Mutate(ctx context.Context, a *Attributes) error {
	if a.Operation == Delete && a.Kind.Group == "" && a.Kind.Kind == "Namespace" {
		switch a.Name {
		case metav1.NamespaceDefault, metav1.NamespaceSystem, metav1.NamespacePublic:
			return apierrors.NewForbidden(a.Resource.GroupResource(), a.Name, errors.New("this namespace may not be deleted"))
		}
	}
	if a.Operation != Create || a.Namespace == "" || a.Kind.Group == "" && a.Kind.Kind == "Namespace" ||
		a.Is("authorization.k8s.io", "localsubjectaccessreviews", "") {
		return nil
	}
	ns, err := p.get(ctx, a.Namespace)
	if apierrors.IsNotFound(err) {
		if err := wait(ctx, missingNamespaceWait); err != nil {
			return err
		}
		ns, err = p.get(ctx, a.Namespace)
	}
	switch {
	case apierrors.IsNotFound(err):
		return err
	case err != nil:
		return apierrors.NewInternalError(err)
	case ns.Status.Phase != corev1.NamespaceTerminating:
		return nil
	}
	refusal := apierrors.NewForbidden(a.Resource.GroupResource(), objectName(a),
		fmt.Errorf("unable to create new content in namespace %s because it is being terminated", a.Namespace))
	refusal.ErrStatus.Details.Causes = append(refusal.ErrStatus.Details.Causes, metav1.StatusCause{
		Type:    corev1.NamespaceTerminatingCause,
		Message: fmt.Sprintf("namespace %s is being terminated", a.Namespace),
		Field:   "metadata.namespace",
	})
	return refusal
}

// wait pauses, unless ctx ends first.
func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return apierrors.NewTimeoutError(ctx.Err().Error(), 1)
	}
}
