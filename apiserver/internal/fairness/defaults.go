package fairness

import (
	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"flagship/apiserver/internal/authn"
)

// The default objects are upstream's of v1.37: two levels and two schemas without which nothing works, and those that keep
// the parts of a cluster from each other.

// mandatory says whether a level is there even where the API has none.
func mandatory(name string) bool {
	return name == flowcontrolv1.PriorityLevelConfigurationNameExempt || name == flowcontrolv1.PriorityLevelConfigurationNameCatchAll
}

func mandatoryLevels() []*flowcontrolv1.PriorityLevelConfiguration {
	none := int32(0)
	exempt := levelNamed(flowcontrolv1.PriorityLevelConfigurationNameExempt)
	exempt.Spec = flowcontrolv1.PriorityLevelConfigurationSpec{
		Type: flowcontrolv1.PriorityLevelEnablementExempt, Exempt: &flowcontrolv1.ExemptPriorityLevelConfiguration{NominalConcurrencyShares: &none, LendablePercent: &none},
	}
	return []*flowcontrolv1.PriorityLevelConfiguration{limited(flowcontrolv1.PriorityLevelConfigurationNameCatchAll, 5, 0, 0, 0), exempt}
}

func mandatorySchemas() (first, last *flowcontrolv1.FlowSchema) {
	first = schemaOf(flowcontrolv1.FlowSchemaNameExempt, flowcontrolv1.PriorityLevelConfigurationNameExempt, 1, "", everything(groups(authn.PrivilegedGroup)))
	last = schemaOf(flowcontrolv1.FlowSchemaNameCatchAll, flowcontrolv1.PriorityLevelConfigurationNameCatchAll, 10000, byUser, everything(everybody()))
	return first, last
}

func mandatoryObjects() []object {
	first, last := mandatorySchemas()
	levels := mandatoryLevels()
	return []object{levels[0], levels[1], first, last}
}

func suggested() []object {
	const high, low = "workload-high", "workload-low"
	manager, scheduler := user("system:kube-controller-manager"), user("system:kube-scheduler")
	nodes := groups("system:nodes")
	leases := resources(false, "coordination.k8s.io", []string{"leases"}, flowcontrolv1.VerbAll)
	system := flowcontrolv1.Subject{Kind: flowcontrolv1.SubjectKindServiceAccount, ServiceAccount: &flowcontrolv1.ServiceAccountSubject{Namespace: metav1.NamespaceSystem, Name: flowcontrolv1.NameAll}}
	return []object{
		limited("system", 30, 33, 64, 6),
		limited("node-high", 40, 25, 64, 6),
		limited("leader-election", 10, 0, 16, 4),
		limited(high, 40, 50, 128, 6),
		limited(low, 100, 90, 128, 6),
		limited("global-default", 20, 50, 128, 6),

		schemaOf("system-nodes", "system", 500, byUser, everything(nodes)),
		schemaOf("system-node-high", "node-high", 400, byUser, flowcontrolv1.PolicyRulesWithSubjects{
			Subjects:      nodes,
			ResourceRules: []flowcontrolv1.ResourcePolicyRule{resources(true, "", []string{"nodes", "nodes/status"}, flowcontrolv1.VerbAll), leases},
		}),
		schemaOf("probes", flowcontrolv1.PriorityLevelConfigurationNameExempt, 2, "", flowcontrolv1.PolicyRulesWithSubjects{
			Subjects:         everybody(),
			NonResourceRules: []flowcontrolv1.NonResourcePolicyRule{{Verbs: []string{"get"}, NonResourceURLs: []string{"/healthz", "/readyz", "/livez"}}},
		}),
		schemaOf("system-leader-election", "leader-election", 100, byUser, flowcontrolv1.PolicyRulesWithSubjects{
			Subjects:      []flowcontrolv1.Subject{manager, scheduler, system},
			ResourceRules: []flowcontrolv1.ResourcePolicyRule{resources(false, "coordination.k8s.io", []string{"leases"}, "get", "create", "update")},
		}),
		schemaOf("kube-controller-manager", high, 800, byNamespace, everything([]flowcontrolv1.Subject{manager})),
		schemaOf("kube-scheduler", high, 800, byNamespace, everything([]flowcontrolv1.Subject{scheduler})),
		schemaOf("kube-system-service-accounts", high, 900, byNamespace, everything([]flowcontrolv1.Subject{system})),
		schemaOf("service-accounts", low, 9000, byUser, everything(groups("system:serviceaccounts"))),
		schemaOf("global-default", "global-default", 9900, byUser, everything(everybody())),
	}
}

// The ways to tell the flows of a schema apart.
const (
	byUser      = flowcontrolv1.FlowDistinguisherMethodByUserType
	byNamespace = flowcontrolv1.FlowDistinguisherMethodByNamespaceType
)

func meta(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: name, Annotations: map[string]string{flowcontrolv1.AutoUpdateAnnotationKey: "true"}}
}

func levelNamed(name string) *flowcontrolv1.PriorityLevelConfiguration {
	return &flowcontrolv1.PriorityLevelConfiguration{ObjectMeta: meta(name)}
}

// queueLength is how many requests wait in a queue of a default level.
const queueLength = 50

// limited is a level with so many shares, of which others may have lendable percent. With no queues what finds no seat is refused.
func limited(name string, shares, lendable, queues, hand int32) *flowcontrolv1.PriorityLevelConfiguration {
	l := &flowcontrolv1.LimitedPriorityLevelConfiguration{NominalConcurrencyShares: &shares, LendablePercent: &lendable}
	l.LimitResponse.Type = flowcontrolv1.LimitResponseTypeReject
	if queues > 0 {
		l.LimitResponse.Type = flowcontrolv1.LimitResponseTypeQueue
		l.LimitResponse.Queuing = &flowcontrolv1.QueuingConfiguration{Queues: queues, HandSize: hand, QueueLengthLimit: queueLength}
	}
	p := levelNamed(name)
	p.Spec = flowcontrolv1.PriorityLevelConfigurationSpec{Type: flowcontrolv1.PriorityLevelEnablementLimited, Limited: l}
	return p
}

func schemaOf(name, level string, precedence int32, flows flowcontrolv1.FlowDistinguisherMethodType, rule flowcontrolv1.PolicyRulesWithSubjects) *flowcontrolv1.FlowSchema {
	s := &flowcontrolv1.FlowSchema{ObjectMeta: meta(name)}
	s.Spec = flowcontrolv1.FlowSchemaSpec{
		PriorityLevelConfiguration: flowcontrolv1.PriorityLevelConfigurationReference{Name: level},
		MatchingPrecedence:         precedence, Rules: []flowcontrolv1.PolicyRulesWithSubjects{rule},
	}
	if flows != "" {
		s.Spec.DistinguisherMethod = &flowcontrolv1.FlowDistinguisherMethod{Type: flows}
	}
	return s
}

// everything is a rule of all requests of some subjects.
func everything(subjects []flowcontrolv1.Subject) flowcontrolv1.PolicyRulesWithSubjects {
	return flowcontrolv1.PolicyRulesWithSubjects{
		Subjects:         subjects,
		ResourceRules:    []flowcontrolv1.ResourcePolicyRule{resources(true, flowcontrolv1.APIGroupAll, []string{flowcontrolv1.ResourceAll}, flowcontrolv1.VerbAll)},
		NonResourceRules: []flowcontrolv1.NonResourcePolicyRule{{Verbs: []string{flowcontrolv1.VerbAll}, NonResourceURLs: []string{flowcontrolv1.NonResourceAll}}},
	}
}

func resources(cluster bool, group string, names []string, verbs ...string) flowcontrolv1.ResourcePolicyRule {
	return flowcontrolv1.ResourcePolicyRule{Verbs: verbs, APIGroups: []string{group}, Resources: names, ClusterScope: cluster, Namespaces: []string{flowcontrolv1.NamespaceEvery}}
}

func everybody() []flowcontrolv1.Subject {
	return groups(authn.AllUnauthenticated, authn.AllAuthenticated)
}

func groups(names ...string) []flowcontrolv1.Subject {
	out := make([]flowcontrolv1.Subject, len(names))
	for i, n := range names {
		out[i] = flowcontrolv1.Subject{Kind: flowcontrolv1.SubjectKindGroup, Group: &flowcontrolv1.GroupSubject{Name: n}}
	}
	return out
}

func user(name string) flowcontrolv1.Subject {
	return flowcontrolv1.Subject{Kind: flowcontrolv1.SubjectKindUser, User: &flowcontrolv1.UserSubject{Name: name}}
}
