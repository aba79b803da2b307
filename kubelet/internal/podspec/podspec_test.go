package podspec

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// list reads "cpu=1 memory=1Gi".
func list(pairs ...string) corev1.ResourceList {
	out := corev1.ResourceList{}
	for i := 0; i < len(pairs); i += 2 {
		out[corev1.ResourceName(pairs[i])] = resource.MustParse(pairs[i+1])
	}
	return out
}

func with(name string, requests, limits corev1.ResourceList) corev1.Container {
	return corev1.Container{Name: name, Resources: corev1.ResourceRequirements{Requests: requests, Limits: limits}}
}

func always(c corev1.Container) corev1.Container {
	p := corev1.ContainerRestartPolicyAlways
	c.RestartPolicy = &p
	return c
}

func TestQOS(t *testing.T) {
	both := list("cpu", "1", "memory", "1Gi")
	tests := map[string]struct {
		spec corev1.PodSpec
		want corev1.PodQOSClass
	}{
		"nothing":                      {corev1.PodSpec{Containers: []corev1.Container{with("a", nil, nil)}}, corev1.PodQOSBestEffort},
		"equal":                        {corev1.PodSpec{Containers: []corev1.Container{with("a", both, both)}}, corev1.PodQOSGuaranteed},
		"one container without limits": {corev1.PodSpec{Containers: []corev1.Container{with("a", both, both), with("b", nil, nil)}}, corev1.PodQOSBurstable},
		"only cpu":                     {corev1.PodSpec{Containers: []corev1.Container{with("a", list("cpu", "1"), list("cpu", "1"))}}, corev1.PodQOSBurstable},
		"less than the limit":          {corev1.PodSpec{Containers: []corev1.Container{with("a", list("cpu", "1", "memory", "1Mi"), both)}}, corev1.PodQOSBurstable},
		"an extended resource only":    {corev1.PodSpec{Containers: []corev1.Container{with("a", list("x.io/y", "1"), list("x.io/y", "1"))}}, corev1.PodQOSBestEffort},
		"an init container counts":     {corev1.PodSpec{InitContainers: []corev1.Container{with("i", nil, nil)}, Containers: []corev1.Container{with("a", both, both)}}, corev1.PodQOSBurstable},
		"the pod's own win":            {corev1.PodSpec{Resources: &corev1.ResourceRequirements{Requests: both, Limits: both}, Containers: []corev1.Container{with("a", nil, nil)}}, corev1.PodQOSGuaranteed},
	}
	for name, tc := range tests {
		if got := QOS(&corev1.Pod{Spec: tc.spec}); got != tc.want {
			t.Errorf("%s: %s, want %s", name, got, tc.want)
		}
	}
}

func TestRequests(t *testing.T) {
	tests := map[string]struct {
		spec corev1.PodSpec
		want corev1.ResourceList
	}{
		"the sum": {corev1.PodSpec{Containers: []corev1.Container{with("a", list("cpu", "1"), nil), with("b", list("cpu", "2", "memory", "1Mi"), nil)}}, list("cpu", "3", "memory", "1Mi")},
		"an init container that needs more": {
			corev1.PodSpec{InitContainers: []corev1.Container{with("i", list("cpu", "5"), nil)}, Containers: []corev1.Container{with("a", list("cpu", "1"), nil)}}, list("cpu", "5"),
		},
		"sidecars add up with what runs beside them": {
			corev1.PodSpec{InitContainers: []corev1.Container{always(with("s", list("cpu", "2"), nil)), with("i", list("cpu", "4"), nil)}, Containers: []corev1.Container{with("a", list("cpu", "1"), nil)}}, list("cpu", "6"),
		},
		"overhead": {corev1.PodSpec{Overhead: list("cpu", "250m"), Containers: []corev1.Container{with("a", list("cpu", "1"), nil)}}, list("cpu", "1250m")},
		"the pod's own": {
			corev1.PodSpec{Resources: &corev1.ResourceRequirements{Requests: list("cpu", "7")}, Containers: []corev1.Container{with("a", list("cpu", "1", "memory", "1Mi"), nil)}}, list("cpu", "7", "memory", "1Mi"),
		},
	}
	same := cmp.Comparer(func(a, b resource.Quantity) bool { return a.Cmp(b) == 0 })
	for name, tc := range tests {
		if diff := cmp.Diff(tc.want, Requests(&corev1.Pod{Spec: tc.spec}), same); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestRestartAllowed(t *testing.T) {
	policy := func(p corev1.ContainerRestartPolicy, rules ...corev1.ContainerRestartRule) corev1.Container {
		return corev1.Container{RestartPolicy: &p, RestartPolicyRules: rules}
	}
	rule := func(op corev1.ContainerRestartRuleOnExitCodesOperator, codes ...int32) corev1.ContainerRestartRule {
		return corev1.ContainerRestartRule{Action: corev1.ContainerRestartRuleActionRestart, ExitCodes: &corev1.ContainerRestartRuleOnExitCodes{Operator: op, Values: codes}}
	}
	tests := map[string]struct {
		pod  corev1.RestartPolicy
		c    corev1.Container
		code int32
		want bool
	}{
		"Always":                      {"Always", corev1.Container{}, 0, true},
		"OnFailure after a success":   {"OnFailure", corev1.Container{}, 0, false},
		"OnFailure after a failure":   {"OnFailure", corev1.Container{}, 1, true},
		"Never":                       {"Never", corev1.Container{}, 1, false},
		"the container's own":         {"Never", policy("Always"), 0, true},
		"a rule that names the code":  {"Never", policy("Never", rule("In", 42)), 42, true},
		"a rule that does not":        {"Never", policy("Never", rule("In", 42)), 1, false},
		"a rule for all but one code": {"Always", policy("Never", rule("NotIn", 42)), 1, true},
	}
	for name, tc := range tests {
		if got := RestartAllowed(&corev1.Pod{Spec: corev1.PodSpec{RestartPolicy: tc.pod}}, &tc.c, tc.code); got != tc.want {
			t.Errorf("%s: %t, want %t", name, got, tc.want)
		}
	}
}

func TestOOMScoreAdj(t *testing.T) {
	const node = 8 << 30
	critical, both := int32(2000001000), list("cpu", "1", "memory", "1Gi")
	tests := map[string]struct {
		pod  corev1.Pod
		want int64
	}{
		"best effort":            {corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{with("c", nil, nil)}}}, 1000},
		"guaranteed":             {corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{with("c", both, both)}}}, -997},
		"burstable":              {corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{with("c", list("memory", "2Gi"), nil)}}}, 750},
		"burstable, little":      {corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{with("c", list("memory", "1Ki"), nil)}}}, 999},
		"burstable, nearly all":  {corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{with("c", list("memory", "8Gi"), nil)}}}, 3},
		"node-critical priority": {corev1.Pod{Spec: corev1.PodSpec{Priority: &critical, Containers: []corev1.Container{with("c", nil, nil)}}}, -997},
		"a static pod":           {corev1.Pod{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{ConfigSourceAnnotation: "file"}}, Spec: corev1.PodSpec{Containers: []corev1.Container{with("c", nil, nil)}}}, -997},
	}
	for name, tc := range tests {
		if got := OOMScoreAdj(&tc.pod, &tc.pod.Spec.Containers[0], node); got != tc.want {
			t.Errorf("%s: %d, want %d", name, got, tc.want)
		}
	}
}

func TestReferences(t *testing.T) {
	local := func(n string) corev1.LocalObjectReference { return corev1.LocalObjectReference{Name: n} }
	pod := &corev1.Pod{Spec: corev1.PodSpec{
		ImagePullSecrets: []corev1.LocalObjectReference{local("pull"), local("")},
		InitContainers:   []corev1.Container{{EnvFrom: []corev1.EnvFromSource{{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: local("cm-from")}}, {SecretRef: &corev1.SecretEnvSource{LocalObjectReference: local("s-from")}}}}},
		Containers: []corev1.Container{{Env: []corev1.EnvVar{
			{Name: "plain"},
			{ValueFrom: &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{LocalObjectReference: local("cm-key")}}},
			{ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: local("s-key")}}},
		}}},
		Volumes: []corev1.Volume{
			{VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: local("cm-vol")}}},
			{VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "s-vol"}}},
			{VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
				{ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: local("cm-vol")}}, {Secret: &corev1.SecretProjection{LocalObjectReference: local("s-proj")}},
			}}}},
		},
	}}
	maps, secrets := References(pod)
	if diff := cmp.Diff([]string{"cm-from", "cm-key", "cm-vol"}, maps); diff != "" {
		t.Errorf("config maps (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"pull", "s-from", "s-key", "s-proj", "s-vol"}, secrets); diff != "" {
		t.Errorf("secrets (-want +got):\n%s", diff)
	}
}

// TestHashContainer holds upstream's values: a kubelet of either kind must know the other's containers.
func TestHashContainer(t *testing.T) {
	a, b := corev1.Container{Name: "test_container", Image: "foo/image:v1"}, corev1.Container{Name: "test_container", Image: "foo/image:v1", Command: []string{"x"}}
	if HashContainer(&a) != HashContainer(&b) {
		t.Error("a field that does not restart changes the hash")
	}
	if got := HashContainer(&a); got != 0x8e45cbd0 {
		t.Errorf("hash %#x, want upstream's 0x8e45cbd0", got)
	}
}

func TestEffectiveLimits(t *testing.T) {
	pod := &corev1.ResourceRequirements{Limits: list("cpu", "2", "memory", "1Gi")}
	got := EffectiveLimits(pod, &corev1.ResourceRequirements{Limits: list("cpu", "1")})
	same := cmp.Comparer(func(a, b resource.Quantity) bool { return a.Cmp(b) == 0 })
	if diff := cmp.Diff(list("cpu", "1", "memory", "1Gi"), got, same, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("limits (-want +got):\n%s", diff)
	}
}

func TestValidateStatic(t *testing.T) {
	good := func() *corev1.Pod {
		return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "n"}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i"}}}}
	}
	if err := ValidateStatic(good()); err != nil {
		t.Error(err)
	}
	for name, spoil := range map[string]func(*corev1.Pod){
		"no name":             func(p *corev1.Pod) { p.Name = "" },
		"no container":        func(p *corev1.Pod) { p.Spec.Containers = nil },
		"no image":            func(p *corev1.Pod) { p.Spec.Containers[0].Image = "" },
		"twice the same name": func(p *corev1.Pod) { p.Spec.Containers = append(p.Spec.Containers, p.Spec.Containers[0]) },
		"an unknown volume":   func(p *corev1.Pod) { p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "v"}} },
		"a secret": func(p *corev1.Pod) {
			p.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{}}}}
		},
		"a service account": func(p *corev1.Pod) { p.Spec.ServiceAccountName = "sa" },
	} {
		p := good()
		spoil(p)
		if ValidateStatic(p) == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
