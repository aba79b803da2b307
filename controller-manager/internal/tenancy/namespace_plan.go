package tenancy

import (
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// emptying is how far the removal of a namespace's content has come.
type emptying struct {
	discovery []error
	deletion  []error
	remaining map[schema.GroupVersionResource]int
	// finalizers counts the objects that each finalizer holds.
	finalizers map[string]int
	// wait is how long what remains may take, in seconds.
	wait int64
}

func (e *emptying) done() bool {
	return len(e.discovery) == 0 && len(e.deletion) == 0 && len(e.remaining) == 0
}

// namespaceConditions brings a namespace's five conditions up to date and says whether one changed.
func namespaceConditions(st *corev1.NamespaceStatus, e *emptying, now time.Time) bool {
	changed := false
	set := func(t corev1.NamespaceConditionType, bad bool, badReason, badMessage, okReason, okMessage string) {
		c := corev1.NamespaceCondition{Type: t, Status: corev1.ConditionFalse, Reason: okReason, Message: okMessage, LastTransitionTime: metav1.NewTime(now)}
		if bad {
			c.Status, c.Reason, c.Message = corev1.ConditionTrue, badReason, badMessage
		}
		for i := range st.Conditions {
			old := &st.Conditions[i]
			if old.Type != t {
				continue
			}
			if old.Status != c.Status || old.Message != c.Message || old.Reason != c.Reason {
				*old, changed = c, true
			}
			return
		}
		st.Conditions, changed = append(st.Conditions, c), true
	}
	set(corev1.NamespaceDeletionDiscoveryFailure, len(e.discovery) > 0, "DiscoveryFailed", "Discovery failed for some groups, "+joined(e.discovery),
		"ResourcesDiscovered", "All resources successfully discovered")
	set(corev1.NamespaceDeletionGVParsingFailure, false, "", "", "ParsedGroupVersions", "All legacy kube types successfully parsed")
	set(corev1.NamespaceDeletionContentFailure, len(e.deletion) > 0, "ContentDeletionFailed", "Failed to delete all resource types, "+joined(e.deletion),
		"ContentDeleted", "All content successfully deleted, may be waiting on finalization")
	var rest []string
	for gvr, n := range e.remaining {
		name := gvr.Resource
		if gvr.Group != "" {
			name += "." + gvr.Group
		}
		rest = append(rest, fmt.Sprintf("%s has %d resource instances", name, n))
	}
	slices.Sort(rest)
	set(corev1.NamespaceContentRemaining, len(rest) > 0, "SomeResourcesRemain", "Some resources are remaining: "+strings.Join(rest, ", "),
		"ContentRemoved", "All content successfully removed")
	var held []string
	for f, n := range e.finalizers {
		held = append(held, fmt.Sprintf("%s in %d resource instances", f, n))
	}
	slices.Sort(held)
	set(corev1.NamespaceFinalizersRemaining, len(held) > 0, "SomeFinalizersRemain", "Some content in the namespace has finalizers remaining: "+strings.Join(held, ", "),
		"ContentHasNoFinalizers", "All content-preserving finalizers finished")
	return changed
}

func joined(errs []error) string {
	texts := make([]string, len(errs))
	for i, err := range errs {
		texts[i] = err.Error()
	}
	slices.Sort(texts)
	return fmt.Sprintf("%d remaining: %s", len(errs), strings.Join(texts, ", "))
}
