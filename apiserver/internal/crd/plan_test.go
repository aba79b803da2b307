package crd

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// conditions are a status' conditions as type=status/reason.
func conditions(s apiextensionsv1.CustomResourceDefinitionStatus) map[string]string {
	out := map[string]string{}
	for _, c := range s.Conditions {
		out[string(c.Type)] = string(c.Status) + "/" + c.Reason
	}
	return out
}

func TestPlanStatus(t *testing.T) {
	at := metav1.NewTime(time.Unix(1000, 0))
	ours := apiextensionsv1.CustomResourceDefinitionNames{Plural: "foos", Singular: "foo", Kind: "Foo", ListKind: "FooList", ShortNames: []string{"f"}}
	accepted := map[string]string{"NamesAccepted": "True/NoConflicts", "Established": "True/InitialNamesAccepted"}
	for name, tc := range map[string]struct {
		change   func(d *apiextensionsv1.CustomResourceDefinition)
		taken    Names
		want     map[string]string
		accepted apiextensionsv1.CustomResourceDefinitionNames
	}{
		"new":            {taken: NamesOf(), want: accepted, accepted: ours},
		"others' names":  {taken: NamesOf(apiextensionsv1.CustomResourceDefinitionNames{Plural: "bars", Singular: "bar", Kind: "Bar", ListKind: "BarList"}), want: accepted, accepted: ours},
		"kind is taken":  {taken: NamesOf(apiextensionsv1.CustomResourceDefinitionNames{Kind: "Foo"}), want: map[string]string{"NamesAccepted": "False/KindConflict", "Established": "False/NotAccepted"}, accepted: apiextensionsv1.CustomResourceDefinitionNames{Plural: "foos", Singular: "foo", ListKind: "FooList", ShortNames: []string{"f"}}},
		"short is taken": {taken: NamesOf(apiextensionsv1.CustomResourceDefinitionNames{ShortNames: []string{"f"}}), want: map[string]string{"NamesAccepted": "False/ShortNamesConflict", "Established": "False/NotAccepted"}, accepted: apiextensionsv1.CustomResourceDefinitionNames{Plural: "foos", Singular: "foo", Kind: "Foo", ListKind: "FooList"}},
		"established stays": {
			change: func(d *apiextensionsv1.CustomResourceDefinition) {
				d.Status = PlanStatus(d, NamesOf(), at)
				d.Spec.Names.ShortNames = []string{"g"}
			},
			taken: NamesOf(apiextensionsv1.CustomResourceDefinitionNames{ShortNames: []string{"g"}}),
			want:  map[string]string{"NamesAccepted": "False/ShortNamesConflict", "Established": "True/InitialNamesAccepted"}, accepted: ours,
		},
		"not structural": {
			change: func(d *apiextensionsv1.CustomResourceDefinition) { d.Spec.PreserveUnknownFields = true },
			taken:  NamesOf(),
			want:   map[string]string{"NonStructuralSchema": "True/Violations", "NamesAccepted": "True/NoConflicts", "Established": "True/InitialNamesAccepted"}, accepted: ours,
		},
		"a group of Kubernetes": {
			change: func(d *apiextensionsv1.CustomResourceDefinition) { d.Spec.Group = "x.k8s.io" },
			taken:  NamesOf(),
			want:   map[string]string{"KubernetesAPIApprovalPolicyConformant": "False/MissingAnnotation", "NamesAccepted": "True/NoConflicts", "Established": "True/InitialNamesAccepted"}, accepted: ours,
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := parse(t, `[]`)
			if tc.change != nil {
				tc.change(d)
			}
			got := PlanStatus(d, tc.taken, at)
			if diff := cmp.Diff(tc.want, conditions(got)); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(tc.accepted, got.AcceptedNames); diff != "" {
				t.Error(diff)
			}
			d.Status = got
			if diff := cmp.Diff(got, PlanStatus(d, tc.taken, metav1.NewTime(time.Unix(2000, 0)))); diff != "" {
				t.Errorf("a second plan differs: %s", diff)
			}
		})
	}
}
