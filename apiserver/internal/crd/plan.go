package crd

import (
	"errors"
	"fmt"
	"slices"

	"k8s.io/apiextensions-apiserver/pkg/apihelpers"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Names are those that the other definitions of a group hold.
type Names struct {
	Resources, Kinds sets.Set[string]
}

// NamesOf are those that the given accepted names take.
func NamesOf(list ...apiextensionsv1.CustomResourceDefinitionNames) Names {
	n := Names{Resources: sets.New[string](), Kinds: sets.New[string]()}
	for i := range list {
		n.Resources.Insert(list[i].Plural, list[i].Singular)
		n.Resources.Insert(list[i].ShortNames...)
		n.Kinds.Insert(list[i].Kind, list[i].ListKind)
	}
	return n
}

type condition = apiextensionsv1.CustomResourceDefinitionCondition

// PlanStatus is what a definition's status should be: which of its names are
// accepted, whether its resource is served, and what is wrong with its schema.
func PlanStatus(d *apiextensionsv1.CustomResourceDefinition, taken Names, now metav1.Time) apiextensionsv1.CustomResourceDefinitionStatus {
	out := *d.Status.DeepCopy()
	if c := structuralCondition(d); c != nil {
		setCondition(&out, *c, now)
	} else {
		out.Conditions = slices.DeleteFunc(out.Conditions, func(c condition) bool { return c.Type == apiextensionsv1.NonStructuralSchema })
	}
	if c := approvalCondition(d); c != nil {
		setCondition(&out, *c, now)
	}
	if !apiequality.Semantic.DeepEqual(d.Spec.Names, d.Status.AcceptedNames) || find(&out, apiextensionsv1.NamesAccepted) == nil {
		var c condition
		out.AcceptedNames, c = acceptNames(d, taken)
		setCondition(&out, c, now)
	}
	accepted := find(&out, apiextensionsv1.NamesAccepted)
	established := find(&out, apiextensionsv1.Established)
	switch {
	case established != nil && established.Status == apiextensionsv1.ConditionTrue:
		// It stays: objects may exist under the names.
	case accepted != nil && accepted.Status == apiextensionsv1.ConditionTrue:
		setCondition(&out, condition{
			Type: apiextensionsv1.Established, Status: apiextensionsv1.ConditionTrue,
			Reason: "InitialNamesAccepted", Message: "the initial names have been accepted",
		}, now)
	default:
		setCondition(&out, condition{
			Type: apiextensionsv1.Established, Status: apiextensionsv1.ConditionFalse,
			Reason: "NotAccepted", Message: "not all names are accepted",
		}, now)
	}
	return out
}

func find(s *apiextensionsv1.CustomResourceDefinitionStatus, t apiextensionsv1.CustomResourceDefinitionConditionType) *condition {
	for i := range s.Conditions {
		if s.Conditions[i].Type == t {
			return &s.Conditions[i]
		}
	}
	return nil
}

// setCondition adds or changes a condition; the time of a transition is that
// of its status.
func setCondition(s *apiextensionsv1.CustomResourceDefinitionStatus, c condition, now metav1.Time) {
	c.LastTransitionTime = now
	have := find(s, c.Type)
	if have == nil {
		s.Conditions = append(s.Conditions, c)
		return
	}
	if have.Status == c.Status && !have.LastTransitionTime.IsZero() {
		c.LastTransitionTime = have.LastTransitionTime
	}
	c.ObservedGeneration = have.ObservedGeneration
	*have = c
}

// acceptNames takes each name that is free or its own already.
func acceptNames(d *apiextensionsv1.CustomResourceDefinition, taken Names) (apiextensionsv1.CustomResourceDefinitionNames, condition) {
	want, have := d.Spec.Names, d.Status.AcceptedNames
	out := *have.DeepCopy()
	c := condition{Type: apiextensionsv1.NamesAccepted, Status: apiextensionsv1.ConditionTrue, Reason: "NoConflicts", Message: "no conflicts found"}
	refuse := func(reason string, err error) {
		c.Status, c.Reason, c.Message = apiextensionsv1.ConditionFalse, reason, err.Error()
	}
	free := func(name, own string, used sets.Set[string]) error {
		if name == own || !used.Has(name) {
			return nil
		}
		return fmt.Errorf("%q is already in use", name)
	}
	take := func(into *string, name string, used sets.Set[string], reason string) {
		if err := free(name, *into, used); err != nil {
			refuse(reason, err)
			return
		}
		*into = name
	}
	take(&out.Plural, want.Plural, taken.Resources, "PluralConflict")
	take(&out.Singular, want.Singular, taken.Resources, "SingularConflict")
	var errs []error
	for _, short := range want.ShortNames {
		if !slices.Contains(have.ShortNames, short) {
			if err := free(short, "", taken.Resources); err != nil {
				errs = append(errs, err)
			}
		}
	}
	if err := utilerrors.NewAggregate(errs); err != nil {
		refuse("ShortNamesConflict", errors.New(err.Error()))
	} else {
		out.ShortNames = want.ShortNames
	}
	take(&out.Kind, want.Kind, taken.Kinds, "KindConflict")
	take(&out.ListKind, want.ListKind, taken.Kinds, "ListKindConflict")
	out.Categories = want.Categories
	return out, c
}

// structuralCondition says how the schema is not structural, nil where it is.
func structuralCondition(d *apiextensionsv1.CustomResourceDefinition) *condition {
	var errs field.ErrorList
	if d.Spec.PreserveUnknownFields {
		errs = append(errs, field.Invalid(field.NewPath("spec", "preserveUnknownFields"), true, "must be false"))
	}
	for i, v := range d.Spec.Versions {
		if v.Schema == nil || v.Schema.OpenAPIV3Schema == nil {
			continue
		}
		props := &apiextensions.JSONSchemaProps{}
		if apiextensionsv1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(v.Schema.OpenAPIV3Schema, props, nil) != nil {
			continue
		}
		s, err := schema.NewStructural(props)
		if err != nil {
			return &condition{
				Type: apiextensionsv1.NonStructuralSchema, Status: apiextensionsv1.ConditionUnknown, Reason: "StructuralError",
				Message: fmt.Sprintf("failed to check validation schema for version %s: %v", v.Name, err),
			}
		}
		errs = append(errs, schema.ValidateStructural(field.NewPath("spec", "versions").Index(i).Child("schema", "openAPIV3Schema"), s)...)
	}
	if len(errs) == 0 {
		return nil
	}
	return &condition{
		Type: apiextensionsv1.NonStructuralSchema, Status: apiextensionsv1.ConditionTrue, Reason: "Violations", Message: errs.ToAggregate().Error(),
	}
}

// approvalCondition is about groups that belong to Kubernetes, KEP-1111.
func approvalCondition(d *apiextensionsv1.CustomResourceDefinition) *condition {
	if !apihelpers.IsProtectedCommunityGroup(d.Spec.Group) {
		return nil
	}
	state, message := apihelpers.GetAPIApprovalState(d.Annotations)
	c := &condition{Type: apiextensionsv1.KubernetesAPIApprovalPolicyConformant, Status: apiextensionsv1.ConditionFalse, Message: message}
	switch state {
	case apihelpers.APIApprovalInvalid:
		c.Reason = "InvalidAnnotation"
	case apihelpers.APIApprovalMissing:
		c.Reason = "MissingAnnotation"
	case apihelpers.APIApprovalBypassed:
		c.Reason = "UnapprovedAnnotation"
	case apihelpers.APIApproved:
		c.Status, c.Reason = apiextensionsv1.ConditionTrue, "ApprovedAnnotation"
	default:
		c.Status, c.Reason = apiextensionsv1.ConditionUnknown, "UnknownAnnotation"
	}
	return c
}

// Served says whether a definition's resource is to be served.
func Served(s *apiextensionsv1.CustomResourceDefinitionStatus) bool {
	for _, t := range []apiextensionsv1.CustomResourceDefinitionConditionType{apiextensionsv1.NamesAccepted, apiextensionsv1.Established} {
		if c := find(s, t); c != nil && c.Status == apiextensionsv1.ConditionTrue {
			return true
		}
	}
	return false
}

// Terminate marks a definition whose deletion begins: it goes when its objects
// are gone.
func Terminate(d *apiextensionsv1.CustomResourceDefinition, now metav1.Time) {
	if !slices.Contains(d.Finalizers, apiextensionsv1.CustomResourceCleanupFinalizer) {
		d.Finalizers = append(d.Finalizers, apiextensionsv1.CustomResourceCleanupFinalizer)
	}
	SetTerminating(d, apiextensionsv1.ConditionTrue, "InstanceDeletionPending", "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon", now)
}

// SetTerminating records how far the deletion of a definition's objects is.
func SetTerminating(d *apiextensionsv1.CustomResourceDefinition, status apiextensionsv1.ConditionStatus, reason, message string, now metav1.Time) {
	setCondition(&d.Status, condition{Type: apiextensionsv1.Terminating, Status: status, Reason: reason, Message: message}, now)
}
