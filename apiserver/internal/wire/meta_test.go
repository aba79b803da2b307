package wire

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestLabels(t *testing.T) {
	raw, err := samplePod().Marshal()
	if err != nil {
		t.Fatal(err)
	}
	// A later fragment of the metadata wins, as it does for a decoder.
	later := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "other"}}}
	more, err := later.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	got := Labels(append(raw, more...))
	if got.Get("app") != "other" || got.Get("pod-template-hash") != "7d4b9c" || got.Has("tier") || !got.Has("app") {
		t.Errorf("labels: app=%q, hash=%q", got.Get("app"), got.Get("pod-template-hash"))
	}
	if Labels("\x0a\xff").Has("app") {
		t.Error("cut bytes have a label")
	}
}
