package resource

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
)

func TestTemplateGeneration(t *testing.T) {
	s := daemonSet()
	written := &appsv1.DaemonSet{}
	s.Default(written)
	if got := written.Annotations[appsv1.DeprecatedTemplateGeneration]; got != "0" {
		t.Errorf("a written daemon set has the template generation %q, want 0", got)
	}
	old := written.DeepCopy()
	s.PrepareCreate(old)
	for name, prepare := range map[string]func(obj, old anyObject){"update": s.PrepareUpdate, "status": s.PrepareStatus} {
		next := written.DeepCopy()
		prepare(next, old)
		if diff := cmp.Diff(old.Annotations, next.Annotations); diff != "" {
			t.Errorf("%s of an unchanged template (-want +got):\n%s", name, diff)
		}
	}
	next := written.DeepCopy()
	next.Spec.Template.Labels = map[string]string{"app": "a"}
	s.PrepareUpdate(next, old)
	if got := next.Annotations[appsv1.DeprecatedTemplateGeneration]; got != "2" {
		t.Errorf("a changed template has the generation %q, want 2", got)
	}
}

func TestJobHasTheLabelsOfItsTemplate(t *testing.T) {
	j := &batchv1.Job{}
	j.Spec.Template.Labels = map[string]string{"app": "a"}
	job().Default(j)
	if diff := cmp.Diff(map[string]string{"app": "a"}, j.Labels); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}
