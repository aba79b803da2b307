package wire

import (
	"bytes"
	"encoding/json"
	"reflect"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestLists(t *testing.T) {
	remaining := int64(7)
	list := &corev1.PodList{ListMeta: metav1.ListMeta{ResourceVersion: "99", Continue: "abc", RemainingItemCount: &remaining}}
	var raws [][]byte
	for _, rv := range []string{"5", "6"} {
		pod := samplePod()
		raw, _ := pod.Marshal()
		raws = append(raws, raw)
		pod.ResourceVersion = rv
		list.Items = append(list.Items, *pod)
	}
	item := func(i int) ([]byte, string) { return raws[i], []string{"5", "6"}[i] }
	meta := ListMeta{ResourceVersion: "99", Continue: "abc", RemainingItemCount: &remaining}

	var pb bytes.Buffer
	if err := WriteProtoList(&pb, "v1", "PodList", meta, 2, item); err != nil {
		t.Fatal(err)
	}
	if n := ProtoListSize("v1", "PodList", meta, 2, item); n != pb.Len() {
		t.Errorf("size %d, wrote %d", n, pb.Len())
	}
	_, kind, raw, _, err := SplitEnvelope(pb.Bytes())
	if err != nil || kind != "PodList" {
		t.Fatalf("%q %v", kind, err)
	}
	got := &corev1.PodList{}
	if err := got.Unmarshal(raw); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(mustJSON(t, list), mustJSON(t, got)); d != "" {
		t.Error(d)
	}

	p, _ := Compile(reflect.TypeFor[corev1.Pod]())
	var js bytes.Buffer
	err = WriteJSONList(&js, "v1", "PodList", meta, 2, func(dst []byte, i int) ([]byte, error) {
		raw, rv := item(i)
		return p.AppendJSON(dst, "", "", raw, rv)
	})
	if err != nil {
		t.Fatal(err)
	}
	list.Kind, list.APIVersion = "PodList", "v1"
	if d := cmp.Diff(mustJSON(t, list)+"\n", js.String()); d != "" {
		t.Error(d)
	}
}

func mustJSON(t *testing.T, v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestWatchFrames(t *testing.T) {
	raw, _ := samplePod().Marshal()
	object := AppendVersionedEnvelope(nil, "v1", "Pod", raw, "77")
	frame := AppendProtoWatchFrame(nil, "ADDED", object)
	var ev metav1.WatchEvent
	if err := ev.Unmarshal(frame[4:]); err != nil {
		t.Fatal(err)
	}
	if ev.Type != "ADDED" || !bytes.Equal(ev.Object.Raw, object) {
		t.Errorf("event %q", ev.Type)
	}
	want, _ := ev.Marshal()
	if !bytes.Equal(frame[4:], want) || int(frame[2])<<8|int(frame[3]) != len(want) {
		t.Error("frame differs from the generated encoder's")
	}
	_, _, inner, _, err := SplitEnvelope(ev.Object.Raw)
	if err != nil {
		t.Fatal(err)
	}
	m, err := ScanMeta(inner)
	if err != nil || m.ResourceVersion != "77" {
		t.Errorf("resourceVersion %q, %v", m.ResourceVersion, err)
	}
	if got := string(AppendJSONWatchFrame(nil, "DELETED", []byte(`{}`))); got != `{"type":"DELETED","object":{}}`+"\n" {
		t.Error(got)
	}
}

func TestScanMeta(t *testing.T) {
	pod := samplePod()
	now := metav1.Now().Rfc3339Copy()
	grace := int64(30)
	pod.DeletionTimestamp, pod.DeletionGracePeriodSeconds, pod.Finalizers, pod.Generation = &now, &grace, []string{"a/b", "c"}, 3
	pod.Annotations = map[string]string{"x": "y"}
	raw, _ := pod.Marshal()
	m, err := ScanMeta(raw)
	if err != nil {
		t.Fatal(err)
	}
	got := []any{
		m.Name, m.Namespace, m.UID, m.Generation, m.Labels(), m.Annotations(), m.Get("app"), m.Deleting, m.GracePeriodSeconds,
		m.DeletionTimestamp.Equal(now.Time), slices.Collect(m.Finalizers()), slices.Collect(m.Owners()),
		ScanString(raw, 2, 10), ScanString(raw, 3, 1), ScanString(raw, 9, 9),
	}
	want := []any{
		pod.Name, pod.Namespace, string(pod.UID), int64(3), pod.Labels, pod.Annotations, "web", true, int64(30),
		true, pod.Finalizers,
		[]OwnerRef{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "web-7d4b9c", UID: "u", Controller: true}},
		"n1", "Running", "",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestJSONResourceVersion(t *testing.T) {
	for in, want := range map[string]string{
		`{"metadata":{}}`: `{"metadata":{"resourceVersion":"8"}}`,
		`{"a":{"metadata":{"x":1}},"metadata": {"name":"n"}}`:       `{"a":{"metadata":{"x":1}},"metadata": {"resourceVersion":"8","name":"n"}}`,
		`{"metadata":{"name":"n","resourceVersion":"1","z":"}\""}}`: `{"metadata":{"name":"n","resourceVersion":"8","z":"}\""}}`,
		`{"spec":1}`: "",
		`[`:          "",
		``:           "",
	} {
		got, err := AppendJSONResourceVersion(nil, []byte(in), "8")
		if (err != nil) != (want == "") || string(got) != want {
			t.Errorf("%s: %s, %v", in, got, err)
		}
	}
	if got := ScanJSONString([]byte(`{"spec":{"a":"b\n","n":4}}`), "spec", "n"); got != "4" {
		t.Error(got)
	}
}

func TestMalformed(t *testing.T) {
	p, _ := Compile(reflect.TypeFor[corev1.Pod]())
	raw, _ := samplePod().Marshal()
	for n := range raw {
		_, _ = p.AppendJSON(nil, "v1", "Pod", raw[:n], "1")
		_, _ = ScanMeta(raw[:n])
	}
	for name, in := range map[string][]byte{
		"truncated": raw[:10], "wrong wire type": {0x08, 0x01}, "group end": {0x0c}, "tag zero": {0x00}, "huge length": {0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f},
	} {
		if _, err := p.AppendJSON(nil, "v1", "Pod", in, ""); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestMetadataOnly(t *testing.T) {
	pod := samplePod()
	raw, _ := pod.Marshal()
	pod.ResourceVersion = "9"
	want := mustJSON(t, &metav1.PartialObjectMetadata{
		TypeMeta: metav1.TypeMeta{APIVersion: "meta.k8s.io/v1", Kind: "PartialObjectMetadata"}, ObjectMeta: pod.ObjectMeta,
	})
	p, err := Compile(reflect.TypeFor[metav1.PartialObjectMetadata]())
	if err != nil {
		t.Fatal(err)
	}
	only, err := AppendMetadataOnly(nil, AppendResourceVersion(raw, "9"))
	if err != nil {
		t.Fatal(err)
	}
	for name, in := range map[string][]byte{"whole": AppendResourceVersion(raw, "9"), "only": only} {
		got, err := p.AppendJSON(nil, "meta.k8s.io/v1", "PartialObjectMetadata", in, "")
		if d := cmp.Diff(want, string(got)); d != "" || err != nil {
			t.Errorf("%s: %v %s", name, err, d)
		}
	}
}
