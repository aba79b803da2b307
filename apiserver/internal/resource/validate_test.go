package resource

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// TestStrategiesTakeAnything runs every function of every kind on an empty
// object and on one with every field set.
func TestStrategiesTakeAnything(t *testing.T) {
	scheme, err := NewScheme()
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "k8s.io/api").Output()
	if err != nil {
		t.Fatal(err)
	}
	golden := filepath.Join(strings.TrimSpace(string(out)), "testdata", "HEAD")
	for _, k := range Kinds() {
		t.Run(k.GroupVersionKind.String(), func(t *testing.T) {
			empty, err := scheme.New(k.GroupVersionKind)
			if err != nil {
				t.Fatal(err)
			}
			full := empty.DeepCopyObject()
			group := k.Group
			if group == "" {
				group = "core"
			}
			if data, err := os.ReadFile(filepath.Join(golden, group+"."+k.Version+"."+k.Kind+".json")); err == nil {
				if err := json.Unmarshal(data, full); err != nil {
					t.Fatal(err)
				}
			}
			for _, obj := range []runtime.Object{empty, full} {
				for _, old := range []runtime.Object{empty, full} {
					runAll(k, obj.DeepCopyObject(), old.DeepCopyObject())
				}
			}
		})
	}
}

func runAll(k *Kind, obj, old runtime.Object) {
	s := k.Strategy
	if s.Default != nil {
		s.Default(obj)
		s.Default(old)
	}
	if s.PrepareUpdate != nil {
		s.PrepareUpdate(obj.DeepCopyObject(), old)
	}
	if s.PrepareStatus != nil {
		s.PrepareStatus(obj.DeepCopyObject(), old)
	}
	if s.PrepareCreate != nil {
		s.PrepareCreate(obj)
	}
	if s.Validate != nil {
		s.Validate(obj)
	}
	if s.ValidateUpdate != nil {
		s.ValidateUpdate(obj, old)
	}
	if s.ValidateStatus != nil {
		s.ValidateStatus(obj, old)
	}
	if s.ValidatePart != nil {
		s.ValidatePart("part", obj, old)
	}
	if s.Warn != nil {
		s.Warn(obj, nil)
	}
	if s.ValidName != nil {
		s.ValidName("name", false)
	}
}

func TestValidatePod(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*corev1.Pod)
		want   []string
	}{
		"valid":        {func(*corev1.Pod) {}, nil},
		"no container": {func(p *corev1.Pod) { p.Spec.Containers = nil }, []string{"spec.containers: Required value"}},
		"two of a name": {
			func(p *corev1.Pod) { p.Spec.Containers = append(p.Spec.Containers, p.Spec.Containers[0]) },
			[]string{`spec.containers[1].name: Duplicate value: "c"`},
		},
		"mount of no volume": {func(p *corev1.Pod) {
			p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "v", MountPath: "/v"}}
		}, []string{`spec.containers[0].volumeMounts[0].name: Not found: "v"`}},
		"restart policy": {
			func(p *corev1.Pod) { p.Spec.RestartPolicy = "Maybe" },
			[]string{`spec.restartPolicy: Unsupported value: "Maybe": supported values: "Always", "OnFailure", "Never"`},
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i"}}}}
			defaultPod(p)
			tc.change(p)
			var got []string
			for _, e := range validatePod(p) {
				got = append(got, e.Error())
			}
			if d := cmp.Diff(tc.want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestRestartsInAStatus(t *testing.T) {
	rule := func(a corev1.ContainerRestartRuleAction, codes ...int32) corev1.ContainerRestartRule {
		return corev1.ContainerRestartRule{Action: a, ExitCodes: &corev1.ContainerRestartRuleOnExitCodes{Operator: corev1.ContainerRestartRuleOnExitCodesOpIn, Values: codes}}
	}
	never := corev1.ContainerRestartPolicyNever
	for scenario, tc := range map[string]struct {
		policy corev1.RestartPolicy
		own    *corev1.ContainerRestartPolicy
		rules  []corev1.ContainerRestartRule
		other  []corev1.ContainerRestartRule
		code   int32
		ok     bool
	}{
		"always":                     {policy: corev1.RestartPolicyAlways, ok: true},
		"never":                      {policy: corev1.RestartPolicyNever, code: 1},
		"on failure, failed":         {policy: corev1.RestartPolicyOnFailure, code: 1, ok: true},
		"on failure, done":           {policy: corev1.RestartPolicyOnFailure},
		"its own never":              {policy: corev1.RestartPolicyAlways, own: &never},
		"a rule about the code":      {policy: corev1.RestartPolicyNever, own: &never, rules: []corev1.ContainerRestartRule{rule(corev1.ContainerRestartRuleActionRestart, 42)}, code: 42, ok: true},
		"a rule about another code":  {policy: corev1.RestartPolicyNever, own: &never, rules: []corev1.ContainerRestartRule{rule(corev1.ContainerRestartRuleActionRestart, 42)}, code: 1},
		"another's end restarts all": {policy: corev1.RestartPolicyNever, other: []corev1.ContainerRestartRule{rule(corev1.ContainerRestartRuleActionRestartAllContainers, 3)}, ok: true},
	} {
		s := &corev1.PodSpec{RestartPolicy: tc.policy, Containers: []corev1.Container{
			{Name: "a", RestartPolicy: tc.own, RestartPolicyRules: tc.rules}, {Name: "b", RestartPolicyRules: tc.other},
		}}
		old := []corev1.ContainerStatus{{Name: "a", State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: tc.code}}}}
		c := &checks{}
		c.restarts([]corev1.ContainerStatus{{Name: "a", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}}, old, s.Containers, s, root("status"))
		if ok := len(c.list) == 0; ok != tc.ok {
			t.Errorf("%s: %v", scenario, c.list)
		}
	}
}
