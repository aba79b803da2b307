package resource

import (
	"fmt"
	"strconv"
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func validateJob(j *batchv1.Job) field.ErrorList {
	c := &checks{}
	c.generatedSelector(j)
	c.selectedJobSpec(&j.Spec, root("spec"))
	c.indexedName(j)
	return c.list
}

// generatedSelector wants a job that did not ask for a selector of its own to
// have the one that selects its pods alone.
func (c *checks) generatedSelector(j *batchv1.Job) {
	if set2(j.Spec.ManualSelector) || j.Spec.Selector == nil {
		return
	}
	meta := root("spec", "template", "metadata")
	want := []struct{ key, value string }{
		{legacyJobUID, string(j.UID)}, {legacyJobName, j.Name}, {batchv1.ControllerUidLabel, string(j.UID)}, {batchv1.JobNameLabel, j.Name},
	}
	expected := labels.Set{}
	for _, l := range want {
		expected[l.key] = l.value
		at, detail := meta.Child("labels").Key(l.key), fmt.Sprintf("must be '%s'", l.value)
		if v, ok := j.Spec.Template.Labels[l.key]; !ok {
			c.required(at, detail)
		} else if v != l.value {
			c.invalid(at, j.Spec.Template.Labels, detail)
		}
	}
	if s, err := metav1.LabelSelectorAsSelector(j.Spec.Selector); err == nil && !s.Matches(expected) {
		c.invalid(root("spec", "selector"), j.Spec.Selector, "`selector` not auto-generated")
	}
}

func (c *checks) indexedName(j *batchv1.Job) {
	if !indexed(&j.Spec) || j.Spec.Completions == nil || *j.Spec.Completions == 0 {
		return
	}
	host := fmt.Sprintf("%s-%d", j.Name, *j.Spec.Completions-1)
	if len(validation.IsDNS1123Label(host)) > 0 {
		c.invalid(root("metadata", "name"), j.Name, "will not able to create pod with invalid DNS label: "+host)
	}
}

func indexed(s *batchv1.JobSpec) bool {
	return s.CompletionMode != nil && *s.CompletionMode == batchv1.IndexedCompletion
}

func (c *checks) selectedJobSpec(s *batchv1.JobSpec, p *field.Path) {
	c.jobSpec(s, p)
	if s.Selector == nil {
		c.required(p.Child("selector"), "")
	} else {
		c.selector(p.Child("selector"), s.Selector)
	}
	if selector, err := metav1.LabelSelectorAsSelector(s.Selector); err == nil && !selector.Matches(labels.Set(s.Template.Labels)) {
		c.invalid(p.Child("template", "metadata", "labels"), s.Template.Labels, notMatching)
	}
}

func (c *checks) jobSpec(s *batchv1.JobSpec, p *field.Path) {
	for _, f := range []struct {
		name  string
		value *int32
	}{
		{"parallelism", s.Parallelism},
		{"completions", s.Completions},
		{"backoffLimit", s.BackoffLimit},
		{"ttlSecondsAfterFinished", s.TTLSecondsAfterFinished},
		{"backoffLimitPerIndex", s.BackoffLimitPerIndex},
		{"maxFailedIndexes", s.MaxFailedIndexes},
	} {
		if f.value != nil {
			c.nonNegative(p.Child(f.name), int64(*f.value))
		}
	}
	if s.ActiveDeadlineSeconds != nil {
		c.nonNegative(p.Child("activeDeadlineSeconds"), *s.ActiveDeadlineSeconds)
	}
	if s.MaxFailedIndexes != nil && s.BackoffLimitPerIndex == nil {
		c.required(p.Child("backoffLimitPerIndex"), "when maxFailedIndexes is specified")
	}
	if s.ManagedBy != nil {
		c.add(validation.IsDomainPrefixedPath(p.Child("managedBy"), *s.ManagedBy))
		if len(*s.ManagedBy) > 63 {
			c.list = append(c.list, field.TooLong(p.Child("managedBy"), "", 63))
		}
	}
	c.completionMode(s, p)
	if s.PodFailurePolicy != nil {
		c.failurePolicy(s, p.Child("podFailurePolicy", "rules"))
	}
	if s.SuccessPolicy != nil {
		if !indexed(s) {
			c.invalid(p.Child("successPolicy"), shown(*s.SuccessPolicy), "requires indexed completion mode")
		} else {
			c.successPolicy(s, p.Child("successPolicy", "rules"))
		}
	}
	if r := s.PodReplacementPolicy; r != nil {
		if s.PodFailurePolicy != nil {
			oneOf(c, p.Child("podReplacementPolicy"), *r, batchv1.Failed)
		} else {
			oneOf(c, p.Child("podReplacementPolicy"), *r, batchv1.Failed, batchv1.TerminatingOrFailed)
		}
	}
	c.template(&s.Template, p.Child("template"))
	at, policy := p.Child("template", "spec", "restartPolicy"), s.Template.Spec.RestartPolicy
	switch {
	case policy == corev1.RestartPolicyAlways || policy == "":
		c.required(at, `valid values: "OnFailure", "Never"`)
	case policy != corev1.RestartPolicyOnFailure && policy != corev1.RestartPolicyNever:
		c.list = append(c.list, field.NotSupported(at, policy, []corev1.RestartPolicy{corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever}))
	case s.PodFailurePolicy != nil && policy != corev1.RestartPolicyNever:
		c.invalid(at, policy, `only "Never" is supported when podFailurePolicy is specified`)
	}
}

// completionMode bounds indexed jobs so that their status fits an object.
func (c *checks) completionMode(s *batchv1.JobSpec, p *field.Path) {
	const manyPods, manyFailed, soft, highPods, highFailed = 100_000, 100_000, 100_000, 10_000, 10_000
	if s.CompletionMode != nil {
		oneOfListed(c, p.Child("completionMode"), *s.CompletionMode, batchv1.NonIndexedCompletion, batchv1.IndexedCompletion)
	}
	if s.CompletionMode == nil || *s.CompletionMode == batchv1.NonIndexedCompletion {
		const detail = "requires indexed completion mode"
		if s.BackoffLimitPerIndex != nil {
			c.invalid(p.Child("backoffLimitPerIndex"), *s.BackoffLimitPerIndex, detail)
		}
		if s.MaxFailedIndexes != nil {
			c.invalid(p.Child("maxFailedIndexes"), *s.MaxFailedIndexes, detail)
		}
	}
	if !indexed(s) {
		return
	}
	if s.Completions == nil {
		c.required(p.Child("completions"), "when completion mode is Indexed")
	}
	atMost := func(name string, v *int32, most int32, detail string) {
		if v != nil && *v > most {
			c.invalid(p.Child(name), *v, detail)
		}
	}
	atMost("parallelism", s.Parallelism, manyPods, fmt.Sprintf("must be less than or equal to %d when completion mode is Indexed", manyPods))
	if s.Completions != nil {
		atMost("maxFailedIndexes", s.MaxFailedIndexes, *s.Completions, "must be less than or equal to completions")
	}
	atMost("maxFailedIndexes", s.MaxFailedIndexes, manyFailed, fmt.Sprintf("must be less than or equal to %d", manyFailed))
	if s.Completions == nil || *s.Completions <= soft || s.BackoffLimitPerIndex == nil {
		return
	}
	if s.MaxFailedIndexes == nil {
		c.required(p.Child("maxFailedIndexes"), fmt.Sprintf("must be specified when completions is above %d", soft))
	}
	const detail = "must be less than or equal to %d when completions are above %d and used with backoff limit per index"
	atMost("parallelism", s.Parallelism, highPods, fmt.Sprintf(detail, highPods, soft))
	atMost("maxFailedIndexes", s.MaxFailedIndexes, highFailed, fmt.Sprintf(detail, highFailed, soft))
}

func (c *checks) failurePolicy(s *batchv1.JobSpec, p *field.Path) {
	const mostRules, mostPatterns = 20, 20
	if n := len(s.PodFailurePolicy.Rules); n > mostRules {
		c.list = append(c.list, field.TooMany(p, n, mostRules))
	}
	for i := range s.PodFailurePolicy.Rules {
		r, at := &s.PodFailurePolicy.Rules[i], p.Index(i)
		switch r.Action {
		case "":
			c.required(at.Child("action"), `valid values: ["Count" "FailIndex" "FailJob" "Ignore"]`)
		case batchv1.PodFailurePolicyActionFailIndex:
			if s.BackoffLimitPerIndex == nil {
				c.invalid(at.Child("action"), r.Action, "requires the backoffLimitPerIndex to be set")
			}
		default:
			oneOf(c, at.Child("action"), r.Action, batchv1.PodFailurePolicyActionCount, batchv1.PodFailurePolicyActionFailIndex, batchv1.PodFailurePolicyActionFailJob, batchv1.PodFailurePolicyActionIgnore)
		}
		if r.OnExitCodes != nil {
			c.exitCodes(s, r.OnExitCodes, at.Child("onExitCodes"))
		}
		if n := len(r.OnPodConditions); n > mostPatterns {
			c.list = append(c.list, field.TooMany(at.Child("onPodConditions"), n, mostPatterns))
		}
		for j, x := range r.OnPodConditions {
			at := at.Child("onPodConditions").Index(j)
			c.qualified(at.Child("type"), string(x.Type))
			if x.Status == "" {
				c.required(at.Child("status"), `valid values: ["False" "True" "Unknown"]`)
			} else {
				oneOf(c, at.Child("status"), x.Status, corev1.ConditionFalse, corev1.ConditionTrue, corev1.ConditionUnknown)
			}
		}
		switch codes, conditions := r.OnExitCodes != nil, len(r.OnPodConditions) > 0; {
		case codes && conditions:
			c.list = append(c.list, field.Invalid(at, field.OmitValueType{}, "specifying both OnExitCodes and OnPodConditions is not supported"))
		case !codes && !conditions:
			c.list = append(c.list, field.Invalid(at, field.OmitValueType{}, "specifying one of OnExitCodes and OnPodConditions is required"))
		}
	}
}

func (c *checks) exitCodes(s *batchv1.JobSpec, x *batchv1.PodFailurePolicyOnExitCodesRequirement, p *field.Path) {
	const most = 255
	if x.Operator == "" {
		c.required(p.Child("operator"), `valid values: ["In" "NotIn"]`)
	} else {
		oneOf(c, p.Child("operator"), x.Operator, batchv1.PodFailurePolicyOnExitCodesOpIn, batchv1.PodFailurePolicyOnExitCodesOpNotIn)
	}
	if x.ContainerName != nil {
		known := false
		for _, list := range [][]corev1.Container{s.Template.Spec.Containers, s.Template.Spec.InitContainers} {
			for i := range list {
				known = known || list[i].Name == *x.ContainerName
			}
		}
		if !known {
			c.invalid(p.Child("containerName"), *x.ContainerName, "must be one of the container or initContainer names in the pod template")
		}
	}
	at, ordered, seen := p.Child("values"), true, sets.Set[int32]{}
	if len(x.Values) == 0 {
		c.invalid(at, x.Values, "at least one value is required")
	} else if n := len(x.Values); n > most {
		c.list = append(c.list, field.TooMany(at, n, most))
	}
	for i, v := range x.Values {
		if x.Operator == batchv1.PodFailurePolicyOnExitCodesOpIn && v == 0 {
			c.invalid(at.Index(i), v, "must not be 0 for the In operator")
		}
		if seen.Has(v) {
			c.duplicate(at.Index(i), v)
		}
		seen.Insert(v)
		ordered = ordered && (i == 0 || x.Values[i-1] <= v)
	}
	if !ordered {
		c.invalid(at, x.Values, "must be ordered")
	}
}

func (c *checks) successPolicy(s *batchv1.JobSpec, p *field.Path) {
	const most, longest = 20, 64 << 10
	if len(s.SuccessPolicy.Rules) == 0 {
		c.required(p, "at least one rules must be specified when the successPolicy is specified")
	}
	if n := len(s.SuccessPolicy.Rules); n > most {
		c.list = append(c.list, field.TooMany(p, n, most))
	}
	completions := int32(0)
	if s.Completions != nil {
		completions = *s.Completions
	}
	for i, r := range s.SuccessPolicy.Rules {
		at, total := p.Index(i), int32(0)
		if r.SucceededCount == nil && r.SucceededIndexes == nil {
			c.required(at, "at least one of succeededCount or succeededIndexes must be specified")
		}
		if x := r.SucceededIndexes; x != nil {
			if len(*x) > longest {
				c.list = append(c.list, field.TooLong(at.Child("succeededIndexes"), "", longest))
			}
			var err error
			if total, err = countIndexes(*x, completions); err != nil {
				c.invalid(at.Child("succeededIndexes"), *x, fmt.Sprintf("error parsing succeededIndexes: %v", err))
			}
		}
		if n := r.SucceededCount; n != nil {
			at := at.Child("succeededCount")
			c.nonNegative(at, int64(*n))
			if *n > completions {
				c.invalid(at, *n, fmt.Sprintf("must be less than or equal to %d (the number of specified completions)", completions))
			}
			if r.SucceededIndexes != nil && *n > total {
				c.invalid(at, *n, fmt.Sprintf("must be less than or equal to %d (the number of indexes in the specified succeededIndexes field)", total))
			}
		}
	}
}

// countIndexes counts a list such as "1,3-5" of growing indexes below most.
func countIndexes(s string, most int32) (int32, error) {
	if s == "" {
		return 0, nil
	}
	last, total := int32(-1), int32(0)
	for _, part := range strings.Split(s, ",") {
		from, to, isRange := strings.Cut(part, "-")
		if !isRange {
			to = from
		}
		if strings.Contains(to, "-") {
			return 0, fmt.Errorf("the fragment %q violates the requirement that an index interval can have at most two parts separated by '-'", part)
		}
		a, err := strconv.Atoi(from)
		if err != nil {
			return 0, fmt.Errorf("cannot convert string to integer for index: %q", from)
		}
		b, err := strconv.Atoi(to)
		if err != nil {
			return 0, fmt.Errorf("cannot convert string to integer for index: %q", to)
		}
		switch {
		case int32(a) >= most:
			return 0, fmt.Errorf("too large index: %q", from)
		case isRange && int32(b) >= most:
			return 0, fmt.Errorf("too large index: %q", to)
		case last >= int32(a):
			return 0, fmt.Errorf("non-increasing order, previous: %d, current: %d", last, a)
		case isRange && a >= b:
			return 0, fmt.Errorf("non-increasing order, previous: %d, current: %d", a, b)
		}
		last = int32(b)
		total += int32(b-a) + 1
	}
	return total, nil
}

func validateJobUpdate(j, old *batchv1.Job) field.ErrorList {
	c := &checks{}
	p, n, o := root("spec"), &j.Spec, &old.Spec
	c.selectedJobSpec(n, p)
	switch at := p.Child("completions"); {
	case !indexed(n):
		c.same(at, n.Completions, o.Completions)
	case n.Completions == nil || o.Completions != nil && *n.Completions == *o.Completions:
	case n.Parallelism == nil || *n.Completions != *n.Parallelism:
		c.invalid(at, n.Completions, "can only be modified in tandem with spec.parallelism")
	}
	c.immutableSelector(n.Selector, o.Selector)
	c.same(p.Child("template"), n.Template, mutableDirectives(n, o, old))
	c.same(p.Child("completionMode"), n.CompletionMode, o.CompletionMode)
	c.same(p.Child("podFailurePolicy"), n.PodFailurePolicy, o.PodFailurePolicy)
	c.same(p.Child("backoffLimitPerIndex"), n.BackoffLimitPerIndex, o.BackoffLimitPerIndex)
	c.same(p.Child("managedBy"), n.ManagedBy, o.ManagedBy)
	c.same(p.Child("successPolicy"), n.SuccessPolicy, o.SuccessPolicy)
	c.indexedName(j)
	return c.list
}

// mutableDirectives is the old template with what may change while a job is
// suspended and has not started: where its pods go and what they take.
func mutableDirectives(n, o *batchv1.JobSpec, old *batchv1.Job) corev1.PodTemplateSpec {
	if !set2(o.Suspend) || old.Status.StartTime != nil {
		return o.Template
	}
	t := *o.Template.DeepCopy()
	is := &n.Template
	t.Annotations, t.Labels = is.Annotations, is.Labels
	t.Spec.NodeSelector, t.Spec.Tolerations, t.Spec.SchedulingGates = is.Spec.NodeSelector, is.Spec.Tolerations, is.Spec.SchedulingGates
	switch {
	case is.Spec.Affinity == nil && t.Spec.Affinity != nil:
		t.Spec.Affinity.NodeAffinity = nil
		if *t.Spec.Affinity == (corev1.Affinity{}) {
			t.Spec.Affinity = nil
		}
	case is.Spec.Affinity != nil && t.Spec.Affinity == nil:
		t.Spec.Affinity = &corev1.Affinity{NodeAffinity: is.Spec.Affinity.NodeAffinity}
	case is.Spec.Affinity != nil:
		t.Spec.Affinity.NodeAffinity = is.Spec.Affinity.NodeAffinity
	}
	for _, pair := range [][2][]corev1.Container{{t.Spec.Containers, is.Spec.Containers}, {t.Spec.InitContainers, is.Spec.InitContainers}} {
		for i := range pair[0] {
			if len(pair[0]) == len(pair[1]) && pair[0][i].Name == pair[1][i].Name {
				pair[0][i].Resources = pair[1][i].Resources
			}
		}
	}
	return t
}

func validateJobStatus(j, old *batchv1.Job) field.ErrorList {
	c := &checks{}
	s, p := &j.Status, root("status")
	c.nonNegative(p.Child("active"), int64(s.Active))
	c.nonNegative(p.Child("succeeded"), int64(s.Succeeded))
	c.nonNegative(p.Child("failed"), int64(s.Failed))
	if s.Ready != nil {
		c.nonNegative(p.Child("ready"), int64(*s.Ready))
	}
	if s.Terminating != nil {
		c.nonNegative(p.Child("terminating"), int64(*s.Terminating))
	}
	is := func(list []batchv1.JobCondition, t batchv1.JobConditionType) bool {
		for _, x := range list {
			if x.Type == t && x.Status == corev1.ConditionTrue {
				return true
			}
		}
		return false
	}
	for _, t := range []batchv1.JobConditionType{batchv1.JobComplete, batchv1.JobFailed, batchv1.JobFailureTarget, batchv1.JobSuccessCriteriaMet} {
		if is(old.Status.Conditions, t) && !is(s.Conditions, t) {
			c.list = append(c.list, field.Invalid(p.Child("conditions"), field.OmitValueType{}, fmt.Sprintf("cannot disable %s=True condition", t)))
		}
	}
	complete, failed := is(s.Conditions, batchv1.JobComplete), is(s.Conditions, batchv1.JobFailed)
	conditions := func(detail string) {
		c.list = append(c.list, field.Invalid(p.Child("conditions"), field.OmitValueType{}, detail))
	}
	if complete && failed {
		conditions("cannot set Complete=True and Failed=true conditions")
	}
	if complete && is(s.Conditions, batchv1.JobFailureTarget) {
		conditions("cannot set Complete=True and FailureTarget=true conditions")
	}
	if s.CompletionTime != nil && !complete {
		c.invalid(p.Child("completionTime"), s.CompletionTime, "cannot set completionTime when there is no Complete=True condition")
	}
	if s.CompletionTime == nil && complete {
		c.required(p.Child("completionTime"), "completionTime is required for Complete jobs")
	}
	if failed && !is(s.Conditions, batchv1.JobFailureTarget) && !is(old.Status.Conditions, batchv1.JobFailed) {
		conditions("cannot set Failed=True condition without the FailureTarget=true condition")
	}
	if complete && !is(s.Conditions, batchv1.JobSuccessCriteriaMet) && !is(old.Status.Conditions, batchv1.JobComplete) {
		conditions("cannot set Complete=True condition without the SuccessCriteriaMet=true condition")
	}
	if (complete || failed) && s.Active > 0 {
		c.invalid(p.Child("active"), s.Active, "active>0 is invalid for finished job")
	}
	if (complete || failed) && s.StartTime == nil {
		c.required(p.Child("startTime"), "startTime is required for finished job")
	}
	if s.Ready != nil && *s.Ready > s.Active {
		c.invalid(p.Child("ready"), *s.Ready, "cannot set more ready pods than active")
	}
	return c.list
}
