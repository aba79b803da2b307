package volume

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestProtectClass(t *testing.T) {
	class := func(deleted bool, finalizers ...string) *storagev1.VolumeAttributesClass {
		c := &storagev1.VolumeAttributesClass{ObjectMeta: metav1.ObjectMeta{Name: "gold", Finalizers: finalizers}}
		if deleted {
			c.DeletionTimestamp = &metav1.Time{}
		}
		return c
	}
	for scenario, c := range map[string]struct {
		have   *storagev1.VolumeAttributesClass
		inUse  bool
		change bool
		want   []string
	}{
		"new":             {class(false), false, true, []string{classFinalizer}},
		"protected":       {class(false, classFinalizer), false, false, nil},
		"deleted, in use": {class(true, classFinalizer), true, false, nil},
		"deleted, free":   {class(true, "other", classFinalizer), false, true, []string{"other"}},
		"of others":       {class(true, "other"), false, false, nil},
	} {
		t.Run(scenario, func(t *testing.T) {
			next := protectClass(c.have, func() bool { return c.inUse })
			if (next != nil) != c.change {
				t.Fatalf("got %v", next)
			}
			if next == nil {
				return
			}
			if diff := cmp.Diff(c.want, next.Finalizers); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestFreedClasses(t *testing.T) {
	gold, silver := "gold", "silver"
	claim := func(want, have *string, target string) *corev1.PersistentVolumeClaim {
		c := &corev1.PersistentVolumeClaim{}
		c.Spec.VolumeAttributesClassName, c.Status.CurrentVolumeAttributesClassName = want, have
		if target != "" {
			c.Status.ModifyVolumeStatus = &corev1.ModifyVolumeStatus{TargetVolumeAttributesClassName: target}
		}
		return c
	}
	for scenario, c := range map[string]struct {
		old, now *corev1.PersistentVolumeClaim
		want     []string
	}{
		"new":       {nil, claim(&gold, nil, ""), nil},
		"gone":      {claim(&gold, &silver, "bronze"), nil, []string{gold, silver, "bronze"}},
		"modified":  {claim(&gold, &silver, gold), claim(&gold, &gold, ""), []string{silver}},
		"no change": {claim(&gold, nil, ""), claim(&gold, nil, ""), []string{}},
	} {
		t.Run(scenario, func(t *testing.T) {
			if diff := cmp.Diff(c.want, freed(c.old, c.now, claimClasses)); diff != "" {
				t.Error(diff)
			}
		})
	}
	if !named(silver, []*corev1.PersistentVolumeClaim{claim(&gold, &silver, "")}, nil) || named("tin", nil, []*corev1.PersistentVolume{{}}) {
		t.Error("named")
	}
}
