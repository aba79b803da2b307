package podset

import (
	"encoding/json"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
)

// Object is what can be claimed.
type Object interface{ metav1.Object }

// ClaimPlan says what to do with the objects around an owner.
type ClaimPlan[O Object] struct{ Keep, Adopt, Release []O }

// PlanClaim sorts objects: those the owner controls and selects are kept, those it controls and no longer selects are
// released, those nobody controls and it selects are adopted. An owner that is being deleted only keeps.
func PlanClaim[O Object](owner metav1.Object, sel labels.Selector, controlled, orphans []O) ClaimPlan[O] {
	var plan ClaimPlan[O]
	deleting := owner.GetDeletionTimestamp() != nil
	for _, o := range controlled {
		switch {
		case sel.Matches(labels.Set(o.GetLabels())):
			plan.Keep = append(plan.Keep, o)
		case !deleting:
			plan.Release = append(plan.Release, o)
		}
	}
	if deleting || sel.Empty() {
		return plan
	}
	for _, o := range orphans {
		if o.GetDeletionTimestamp() == nil && sel.Matches(labels.Set(o.GetLabels())) && metav1.GetControllerOfNoCopy(o) == nil {
			plan.Adopt = append(plan.Adopt, o)
		}
	}
	return plan
}

type metaPatch struct {
	UID             types.UID `json:"uid"`
	OwnerReferences any       `json:"ownerReferences"`
	Finalizers      []string  `json:"finalizers,omitempty"`
}

func encodePatch(m metaPatch) []byte {
	data, err := json.Marshal(map[string]any{"metadata": m})
	if err != nil {
		panic(err) // strings only
	}
	return data
}

// AdoptPatch makes ref the controller of the object with uid; finalizers are added.
func AdoptPatch(uid types.UID, ref metav1.OwnerReference, finalizers ...string) []byte {
	return encodePatch(metaPatch{UID: uid, OwnerReferences: []metav1.OwnerReference{ref}, Finalizers: finalizers})
}

// ReleasePatch takes the owner off the object with uid, and removes the finalizers.
func ReleasePatch(uid, owner types.UID, finalizers ...string) []byte {
	m := map[string]any{
		"uid":             uid,
		"ownerReferences": []map[string]string{{"$patch": "delete", "uid": string(owner)}},
	}
	if len(finalizers) > 0 {
		m["$deleteFromPrimitiveList/finalizers"] = finalizers
	}
	data, err := json.Marshal(map[string]any{"metadata": m})
	if err != nil {
		panic(err) // strings only
	}
	return data
}
