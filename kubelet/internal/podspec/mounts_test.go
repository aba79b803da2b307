package podspec

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
)

func TestRecursiveReadOnly(t *testing.T) {
	mode := func(m corev1.RecursiveReadOnlyMode) *corev1.RecursiveReadOnlyMode { return &m }
	both := corev1.MountPropagationBidirectional
	tests := map[string]struct {
		m         corev1.VolumeMount
		supported bool
		want, bad bool
	}{
		"not asked for":            {corev1.VolumeMount{ReadOnly: true}, true, false, false},
		"disabled":                 {corev1.VolumeMount{ReadOnly: true, RecursiveReadOnly: mode("Disabled")}, true, false, false},
		"if possible, and it is":   {corev1.VolumeMount{ReadOnly: true, RecursiveReadOnly: mode("IfPossible")}, true, true, false},
		"if possible, it is not":   {corev1.VolumeMount{ReadOnly: true, RecursiveReadOnly: mode("IfPossible")}, false, false, false},
		"enabled":                  {corev1.VolumeMount{ReadOnly: true, RecursiveReadOnly: mode("Enabled")}, true, true, false},
		"enabled, not possible":    {corev1.VolumeMount{ReadOnly: true, RecursiveReadOnly: mode("Enabled")}, false, false, true},
		"of a writable mount":      {corev1.VolumeMount{RecursiveReadOnly: mode("IfPossible")}, true, false, true},
		"of one that propagates":   {corev1.VolumeMount{ReadOnly: true, RecursiveReadOnly: mode("Enabled"), MountPropagation: &both}, true, false, true},
		"a mode that is not known": {corev1.VolumeMount{ReadOnly: true, RecursiveReadOnly: mode("Often")}, true, false, true},
	}
	for name, tc := range tests {
		if got, err := RecursiveReadOnly(&tc.m, tc.supported); got != tc.want || (err != nil) != tc.bad {
			t.Errorf("%s: %t, %v", name, got, err)
		}
	}
}
