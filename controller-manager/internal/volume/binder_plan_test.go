package volume

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

func volume(name, size string, claim types.UID) *corev1.PersistentVolume {
	v := &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.PersistentVolumeSpec{
			Capacity: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse(size)}, AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
		},
		Status: corev1.PersistentVolumeStatus{Phase: corev1.VolumeAvailable},
	}
	if claim != "" {
		v.Spec.ClaimRef = &corev1.ObjectReference{Namespace: "ns", Name: string(claim), UID: claim}
	}
	return v
}

func TestChoose(t *testing.T) {
	claim := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "c", UID: "c"}, Spec: corev1.PersistentVolumeClaimSpec{
		AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
		Resources:   corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("2Gi")}},
	}}
	block := volume("block", "2Gi", "")
	m := corev1.PersistentVolumeBlock
	block.Spec.VolumeMode = &m
	for name, tc := range map[string]struct {
		volumes []*corev1.PersistentVolume
		want    string
	}{
		"the smallest that fits": {[]*corev1.PersistentVolume{volume("big", "9Gi", ""), volume("fit", "3Gi", ""), volume("small", "1Gi", "")}, "fit"},
		"the reserved one":       {[]*corev1.PersistentVolume{volume("fit", "3Gi", ""), volume("mine", "9Gi", "c")}, "mine"},
		"another's is not free":  {[]*corev1.PersistentVolume{volume("theirs", "3Gi", "d")}, ""},
		"of the other mode":      {[]*corev1.PersistentVolume{block}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			got := ""
			if v := choose(claim, tc.volumes); v != nil {
				got = v.Name
			}
			if got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func TestPhaseOf(t *testing.T) {
	bound := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{UID: "c"}, Spec: corev1.PersistentVolumeClaimSpec{VolumeName: "v"}}
	for name, tc := range map[string]struct {
		v     *corev1.PersistentVolume
		claim *corev1.PersistentVolumeClaim
		want  corev1.PersistentVolumePhase
	}{
		"free":     {volume("v", "1Gi", ""), nil, corev1.VolumeAvailable},
		"bound":    {volume("v", "1Gi", "c"), bound, corev1.VolumeBound},
		"released": {volume("v", "1Gi", "c"), nil, corev1.VolumeReleased},
	} {
		if got := phaseOf(tc.v, tc.claim); got != tc.want {
			t.Errorf("%s: got %s, want %s", name, got, tc.want)
		}
	}
}
