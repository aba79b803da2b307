package resource

import (
	"cmp"
	"slices"
	"strings"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/runtime"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
)

const webhookColumns = `
Name
Webhooks:integer | Webhooks indicates the number of webhooks registered in this configuration
Age
`

func mutatingWebhookTable() table {
	return table{columns: columns(webhookColumns), row: rowOf(func(c *admissionv1.MutatingWebhookConfiguration) []any {
		return []any{c.Name, int64(len(c.Webhooks)), c.CreationTimestamp}
	})}
}

func validatingWebhookTable() table {
	return table{columns: columns(webhookColumns), row: rowOf(func(c *admissionv1.ValidatingWebhookConfiguration) []any {
		return []any{c.Name, int64(len(c.Webhooks)), c.CreationTimestamp}
	})}
}

func validatingPolicyTable() table {
	return table{columns: columns(`
Name
Validations:integer | Validations indicates the number of validation rules defined in this configuration
ParamKind           | ParamKind specifies the kind of resources used to parameterize this policy
Age
`), row: rowOf(func(p *admissionv1.ValidatingAdmissionPolicy) []any {
		return []any{p.Name, int64(len(p.Spec.Validations)), paramKind(p.Spec.ParamKind), p.CreationTimestamp}
	})}
}

func mutatingPolicyTable() table {
	return table{columns: columns(`
Name
Mutations:integer | Mutation indicates the number of mutations rules defined in this configuration
ParamKind         | ParamKind specifies the kind of resources used to parameterize this policy
Age
`), row: rowOf(func(p *admissionv1.MutatingAdmissionPolicy) []any {
		return []any{p.Name, int64(len(p.Spec.Mutations)), paramKind(p.Spec.ParamKind), p.CreationTimestamp}
	})}
}

func paramKind(k *admissionv1.ParamKind) string {
	if k == nil {
		return "<unset>"
	}
	return k.APIVersion + "/" + k.Kind
}

const bindingColumns = `
Name
PolicyName | PolicyName indicates the policy definition which the policy binding binded to
ParamRef   | ParamRef indicates the param resource which sets the configuration param
Age
`

func validatingPolicyBindingTable() table {
	return table{columns: columns(bindingColumns), row: rowOf(func(b *admissionv1.ValidatingAdmissionPolicyBinding) []any {
		return []any{b.Name, b.Spec.PolicyName, paramRef(b.Spec.ParamRef), b.CreationTimestamp}
	})}
}

func mutatingPolicyBindingTable() table {
	return table{columns: columns(bindingColumns), row: rowOf(func(b *admissionv1.MutatingAdmissionPolicyBinding) []any {
		return []any{b.Name, b.Spec.PolicyName, paramRef(b.Spec.ParamRef), b.CreationTimestamp}
	})}
}

func paramRef(r *admissionv1.ParamRef) string {
	switch {
	case r == nil:
	case r.Name != "" && r.Namespace != "":
		return r.Namespace + "/" + r.Name
	case r.Name != "": // of any namespace, or of none
		return "*/" + r.Name
	case r.Selector != nil:
		return r.Selector.String()
	}
	return "<unset>"
}

func flowSchemaTable() table {
	return table{columns: columns(`
Name
PriorityLevel       | @PriorityLevelConfigurationReference.name
MatchingPrecedence  | @FlowSchemaSpec.matchingPrecedence
DistinguisherMethod | @FlowSchemaSpec.distinguisherMethod
Age
MissingPL           | references a broken or non-existent PriorityLevelConfiguration
`), row: rowOf(flowSchemaCells), list: flowSchemaRows}
}

func flowSchemaCells(f *flowcontrolv1.FlowSchema) []any {
	method, dangling := "<none>", "?"
	if f.Spec.DistinguisherMethod != nil {
		method = string(f.Spec.DistinguisherMethod.Type)
	}
	for _, c := range f.Status.Conditions {
		if c.Type == flowcontrolv1.FlowSchemaConditionDangling {
			dangling = string(c.Status)
			break
		}
	}
	return []any{f.Name, f.Spec.PriorityLevelConfiguration.Name, int64(f.Spec.MatchingPrecedence), method, f.CreationTimestamp, dangling}
}

// flowSchemaRows stand in the order in which the schemas are tried.
func flowSchemaRows(list []runtime.Object) []ListRow {
	order := make([]int, len(list))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(i, j int) int {
		a, b := list[i].(*flowcontrolv1.FlowSchema), list[j].(*flowcontrolv1.FlowSchema)
		return cmp.Or(cmp.Compare(a.Spec.MatchingPrecedence, b.Spec.MatchingPrecedence), cmp.Compare(a.Name, b.Name))
	})
	rows := make([]ListRow, 0, len(list))
	for _, i := range order {
		rows = append(rows, ListRow{i, flowSchemaCells(list[i].(*flowcontrolv1.FlowSchema))})
	}
	return rows
}

func priorityLevelTable() table {
	return table{columns: columns(`
Name
Type                     | @PriorityLevelConfigurationSpec.type
NominalConcurrencyShares | @LimitedPriorityLevelConfiguration.nominalConcurrencyShares
Queues                   | @QueuingConfiguration.queues
HandSize                 | @QueuingConfiguration.handSize
QueueLengthLimit         | @QueuingConfiguration.queueLengthLimit
Age
`), row: rowOf(func(p *flowcontrolv1.PriorityLevelConfiguration) []any {
		var shares, queues, hand, length any = "<none>", "<none>", "<none>", "<none>"
		if l := p.Spec.Limited; l != nil {
			shares = deref(l.NominalConcurrencyShares)
			if q := l.LimitResponse.Queuing; q != nil {
				queues, hand, length = q.Queues, q.HandSize, q.QueueLengthLimit
			}
		}
		return []any{p.Name, string(p.Spec.Type), shares, queues, hand, length, p.CreationTimestamp}
	})}
}

func customResourceDefinitionTable() table {
	return table{columns: columns(`
Name
Scope                | Cluster/Namespaced
Versions             | Served versions
Created At:date
+Group               | API group
+Kind                | CustomResource kind
+ShortNames          | Short names
+Established:boolean | Established status
`), row: rowOf(func(c *apiextensionsv1.CustomResourceDefinition) []any {
		var versions []string
		for _, v := range c.Spec.Versions {
			if !v.Served {
				continue
			}
			if v.Storage {
				v.Name += "(storage)"
			}
			versions = append(versions, v.Name)
		}
		slices.Sort(versions)
		established := slices.ContainsFunc(c.Status.Conditions, func(c apiextensionsv1.CustomResourceDefinitionCondition) bool {
			return c.Type == apiextensionsv1.Established && c.Status == apiextensionsv1.ConditionTrue
		})
		return []any{
			c.Name, string(c.Spec.Scope), strings.Join(versions, ","), CreatedText(c), c.Spec.Group, c.Spec.Names.Kind,
			strings.Join(c.Spec.Names.ShortNames, ","), established,
		}
	})}
}

func apiServiceTable() table {
	return table{columns: columns(`
Name
Service   | The reference to the service that hosts this API endpoint.
Available | Whether this service is available.
Age
`), row: rowOf(func(a *apiregistrationv1.APIService) []any {
		service, available := "Local", "Unknown"
		if s := a.Spec.Service; s != nil {
			service = s.Namespace + "/" + s.Name
		}
		for _, c := range a.Status.Conditions {
			if c.Type == apiregistrationv1.Available {
				available = string(c.Status)
				if c.Status != apiregistrationv1.ConditionTrue && c.Reason != "" {
					available += " (" + c.Reason + ")"
				}
				break
			}
		}
		return []any{a.Name, service, available, a.CreationTimestamp}
	})}
}

// ComponentStatus is the strategy of a kind that is not stored, which has
// nothing but a table.
func ComponentStatus() Strategy {
	return Strategy{}.shown(table{columns: columns(`
Name
Status  | Status of the component conditions
Message | Message of the component conditions
Error   | Error of the component conditions
`), row: rowOf(func(s *corev1.ComponentStatus) []any {
		for _, c := range s.Conditions {
			switch {
			case c.Type != corev1.ComponentHealthy:
			case c.Status == corev1.ConditionTrue:
				return []any{s.Name, "Healthy", c.Message, c.Error}
			default:
				return []any{s.Name, "Unhealthy", c.Message, c.Error}
			}
		}
		return []any{s.Name, "Unknown", "", ""}
	})})
}

// Scale is the strategy of a scale, of a built-in kind's or a custom one's,
// and has only a table too.
func Scale(custom bool) Strategy {
	if custom {
		return Strategy{}.shown(table{columns: columns(`
Name
Desired:integer   | Number of desired replicas
Available:integer | Number of actual replicas
Age:date
`), row: rowOf(func(s *autoscalingv1.Scale) []any {
			var desired any // the cell is of the JSON, which leaves out a zero
			if s.Spec.Replicas != 0 {
				desired = s.Spec.Replicas
			}
			return []any{s.Name, desired, s.Status.Replicas, s.CreationTimestamp}
		})})
	}
	return Strategy{}.shown(table{columns: columns(`
Name:string
Desired:integer   | @ScaleSpec.replicas
Available:integer | @ScaleStatus.replicas
Age
`), row: rowOf(func(s *autoscalingv1.Scale) []any {
		return []any{s.Name, int64(s.Spec.Replicas), int64(s.Status.Replicas), s.CreationTimestamp}
	})})
}
