package expression

import apiservercel "k8s.io/apiserver/pkg/cel"

// member is a field of a declared type.
type member struct {
	name     string
	typ      *apiservercel.DeclType
	required bool
}

func object(name string, members ...member) *apiservercel.DeclType {
	fields := make(map[string]*apiservercel.DeclField, len(members))
	for _, m := range members {
		fields[m.name] = apiservercel.NewDeclField(m.name, m.typ, m.required, nil, nil)
	}
	return apiservercel.NewObjectType(name, fields)
}

// requestType is the variable request: an AdmissionRequest without its uid and
// objects.
func requestType() *apiservercel.DeclType {
	str, strs := apiservercel.StringType, apiservercel.NewListType(apiservercel.StringType, -1)
	kind := object("kubernetes.GroupVersionKind", member{"group", str, true}, member{"version", str, true}, member{"kind", str, true})
	resource := object("kubernetes.GroupVersionResource", member{"group", str, true}, member{"version", str, true}, member{"resource", str, true})
	user := object("kubernetes.UserInfo", member{"username", str, false}, member{"uid", str, false}, member{"groups", strs, false},
		member{"extra", apiservercel.NewMapType(str, strs, -1), false})
	return object("kubernetes.AdmissionRequest",
		member{"kind", kind, true}, member{"resource", resource, true}, member{"subResource", str, false},
		member{"requestKind", kind, true}, member{"requestResource", resource, true}, member{"requestSubResource", str, false},
		member{"name", str, true}, member{"namespace", str, false}, member{"operation", str, true}, member{"userInfo", user, true},
		member{"dryRun", apiservercel.BoolType, false}, member{"options", apiservercel.DynType, false})
}

// namespaceType is the variable namespaceObject.
func namespaceType() *apiservercel.DeclType {
	str, strs, at := apiservercel.StringType, apiservercel.NewListType(apiservercel.StringType, -1), apiservercel.TimestampType
	texts, number := apiservercel.NewMapType(apiservercel.StringType, apiservercel.StringType, -1), apiservercel.IntType
	condition := object("kubernetes.NamespaceCondition", member{"status", str, true}, member{"type", str, true}, member{"lastTransitionTime", at, true},
		member{"message", str, true}, member{"reason", str, true})
	meta := object("kubernetes.NamespaceMetadata",
		member{"name", str, true}, member{"generateName", str, true}, member{"namespace", str, true}, member{"labels", texts, true},
		member{"annotations", texts, true}, member{"UID", str, true}, member{"creationTimestamp", at, true},
		member{"deletionGracePeriodSeconds", number, true}, member{"deletionTimestamp", at, true}, member{"generation", number, true},
		member{"resourceVersion", str, true}, member{"finalizers", strs, true})
	return object("kubernetes.Namespace", member{"metadata", meta, true},
		member{"spec", object("kubernetes.NamespaceSpec", member{"finalizers", strs, true}), true},
		member{"status", object("kubernetes.NamespaceStatus", member{"conditions", apiservercel.NewListType(condition, -1), true}, member{"phase", str, true}), true})
}
