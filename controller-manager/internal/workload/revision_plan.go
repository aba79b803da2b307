package workload

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/rand"
)

// revisionData is a pod template as ControllerRevisions keep it: a patch that replaces the template.
func revisionData(t *corev1.PodTemplateSpec) ([]byte, error) {
	data, err := json.Marshal(t)
	if err != nil {
		return nil, fmt.Errorf("encode pod template: %w", err)
	}
	var tree map[string]any
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	if err := dec.Decode(&tree); err != nil {
		return nil, fmt.Errorf("encode pod template: %w", err)
	}
	tree["$patch"] = "replace"
	return json.Marshal(map[string]any{"spec": map[string]any{"template": tree}})
}

// templateOf reads a template back out of a revision.
func templateOf(r *appsv1.ControllerRevision) (*corev1.PodTemplateSpec, error) {
	var data struct {
		Spec struct {
			Template corev1.PodTemplateSpec `json:"template"`
		} `json:"spec"`
	}
	if err := json.Unmarshal(r.Data.Raw, &data); err != nil {
		return nil, fmt.Errorf("read revision %s: %w", r.Name, err)
	}
	return &data.Spec.Template, nil
}

// sameRevision compares what two revisions hold; the bytes may be ordered differently.
func sameRevision(a []byte, b *appsv1.ControllerRevision) bool {
	if bytes.Equal(a, b.Data.Raw) {
		return true
	}
	var x, y any
	if json.Unmarshal(a, &x) != nil || json.Unmarshal(b.Data.Raw, &y) != nil {
		return false
	}
	p, err1 := json.Marshal(x)
	q, err2 := json.Marshal(y)
	return err1 == nil && err2 == nil && bytes.Equal(p, q)
}

func sortRevisions(list []*appsv1.ControllerRevision) {
	slices.SortFunc(list, func(a, b *appsv1.ControllerRevision) int {
		return cmp.Or(cmp.Compare(a.Revision, b.Revision), a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
	})
}

// revisionHash is the hash in the name of a StatefulSet's revision.
func revisionHash(data []byte, collisions int32) string {
	h := fnv.New32()
	_, _ = h.Write(data)
	_, _ = h.Write([]byte(strconv.FormatInt(int64(collisions), 10)))
	return rand.SafeEncodeString(fmt.Sprint(h.Sum32()))
}

// newRevision makes a revision of an owner's template.
func newRevision(owner metav1.Object, kind schema.GroupVersionKind, name, hash string, templateLabels map[string]string, data []byte, number int64) *appsv1.ControllerRevision {
	labels := maps.Clone(templateLabels)
	if labels == nil {
		labels = map[string]string{}
	}
	labels[appsv1.ControllerRevisionHashLabelKey] = hash
	return &appsv1.ControllerRevision{
		ObjectMeta: metav1.ObjectMeta{
			Name: name, Namespace: owner.GetNamespace(), Labels: labels, Annotations: maps.Clone(owner.GetAnnotations()),
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(owner, kind)},
		},
		Data: runtime.RawExtension{Raw: data}, Revision: number,
	}
}

// planHistory lists the old revisions beyond the limit that no pod uses, the oldest first.
func planHistory(old []*appsv1.ControllerRevision, limit int, live func(r *appsv1.ControllerRevision) bool) []*appsv1.ControllerRevision {
	sortRevisions(old)
	excess := len(old) - limit
	var out []*appsv1.ControllerRevision
	for _, r := range old {
		if excess <= 0 {
			break
		}
		if live(r) {
			continue
		}
		out = append(out, r)
		excess--
	}
	return out
}
