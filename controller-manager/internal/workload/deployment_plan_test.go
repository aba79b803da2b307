package workload

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func ptr[T any](v T) *T { return &v }

func deployment(replicas int32, surge, unavailable intstr.IntOrString) *appsv1.Deployment {
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "d", UID: "d"},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas, ProgressDeadlineSeconds: ptr(int32(600)),
			Strategy: appsv1.DeploymentStrategy{
				Type:          appsv1.RollingUpdateDeploymentStrategyType,
				RollingUpdate: &appsv1.RollingUpdateDeployment{MaxSurge: &surge, MaxUnavailable: &unavailable},
			},
		},
	}
}

// set is a ReplicaSet; age orders sets, the older ones have the larger.
func set(name string, replicas, available int32, age int, annotations map[string]string) *appsv1.ReplicaSet {
	return &appsv1.ReplicaSet{
		ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(name), Annotations: annotations, CreationTimestamp: metav1.NewTime(time.Unix(int64(10000-age), 0))},
		Spec:       appsv1.ReplicaSetSpec{Replicas: &replicas},
		Status:     appsv1.ReplicaSetStatus{Replicas: replicas, AvailableReplicas: available},
	}
}

func sizes(plan []resize) map[string]int32 {
	out := map[string]int32{}
	for _, r := range plan {
		out[r.set.Name] = r.to
	}
	return out
}

func TestFenceposts(t *testing.T) {
	for name, tc := range map[string]struct {
		replicas           int32
		surge, unavailable string
		wantS, wantU       int32
	}{
		"defaults of four":  {4, "25%", "25%", 1, 1},
		"defaults of three": {3, "25%", "25%", 1, 0},
		"never both zero":   {3, "0%", "1%", 0, 1},
		"surge rounds up":   {10, "11%", "19%", 2, 1},
	} {
		t.Run(name, func(t *testing.T) {
			s, u := fenceposts(deployment(tc.replicas, intstr.Parse(tc.surge), intstr.Parse(tc.unavailable)))
			if s != tc.wantS || u != tc.wantU {
				t.Errorf("got surge %d unavailable %d, want %d and %d", s, u, tc.wantS, tc.wantU)
			}
		})
	}
}

func TestPlanOldDown(t *testing.T) {
	for name, tc := range map[string]struct {
		d    *appsv1.Deployment
		old  []*appsv1.ReplicaSet
		new  *appsv1.ReplicaSet
		want map[string]int32
	}{
		"waits for the new one": {
			deployment(3, intstr.FromInt32(1), intstr.FromInt32(0)), []*appsv1.ReplicaSet{set("old", 3, 3, 9, nil)}, set("new", 1, 0, 1, nil), map[string]int32{},
		},
		"one for one": {
			deployment(3, intstr.FromInt32(1), intstr.FromInt32(0)), []*appsv1.ReplicaSet{set("old", 3, 3, 9, nil)}, set("new", 1, 1, 1, nil), map[string]int32{"old": 2},
		},
		"unavailable first": {
			deployment(10, intstr.FromInt32(0), intstr.FromInt32(2)),
			[]*appsv1.ReplicaSet{set("older", 5, 5, 9, nil), set("old", 5, 4, 8, nil)},
			set("new", 0, 0, 1, nil),
			map[string]int32{"older": 4, "old": 4},
		},
		"nothing left": {
			deployment(3, intstr.FromInt32(1), intstr.FromInt32(1)), []*appsv1.ReplicaSet{set("old", 0, 0, 9, nil)}, set("new", 3, 3, 1, nil), map[string]int32{},
		},
	} {
		t.Run(name, func(t *testing.T) {
			all := append(append([]*appsv1.ReplicaSet{}, tc.old...), tc.new)
			if diff := cmp.Diff(tc.want, sizes(planOldDown(tc.d, all, tc.old, tc.new))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestPlanScale(t *testing.T) {
	note := func(desired, most string) map[string]string {
		return map[string]string{desiredAnnotation: desired, maxAnnotation: most}
	}
	for name, tc := range map[string]struct {
		d    *appsv1.Deployment
		old  []*appsv1.ReplicaSet
		new  *appsv1.ReplicaSet
		want map[string]int32
	}{
		"only one active": {
			deployment(5, intstr.FromInt32(1), intstr.FromInt32(0)), nil, set("new", 3, 3, 1, note("3", "4")), map[string]int32{"new": 5},
		},
		"in proportion, in the middle of a rollout": {
			deployment(20, intstr.FromInt32(2), intstr.FromInt32(0)),
			[]*appsv1.ReplicaSet{set("old", 8, 8, 9, note("10", "12"))},
			set("new", 4, 4, 1, note("10", "12")),
			map[string]int32{"old": 15, "new": 7},
		},
		"to nothing": {
			deployment(0, intstr.FromInt32(1), intstr.FromInt32(0)),
			[]*appsv1.ReplicaSet{set("old", 2, 2, 9, note("3", "4"))},
			set("new", 2, 2, 1, note("3", "4")),
			map[string]int32{"old": 0, "new": 0},
		},
		"latest of several empty": {
			deployment(1, intstr.FromInt32(1), intstr.FromInt32(0)),
			[]*appsv1.ReplicaSet{set("older", 0, 0, 9, nil), set("old", 0, 0, 5, nil)},
			nil,
			map[string]int32{"old": 1},
		},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, sizes(planScale(tc.d, tc.new, tc.old))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestAnnotateNew(t *testing.T) {
	for name, tc := range map[string]struct {
		have     map[string]string
		revision int64
		want     map[string]string
	}{
		"first":       {nil, 1, map[string]string{revisionAnnotation: "1", "team": "x"}},
		"rolled back": {map[string]string{revisionAnnotation: "1"}, 3, map[string]string{revisionAnnotation: "3", revisionHistoryAnnotation: "1", "team": "x"}},
		"again":       {map[string]string{revisionAnnotation: "3", revisionHistoryAnnotation: "1"}, 5, map[string]string{revisionAnnotation: "5", revisionHistoryAnnotation: "1,3", "team": "x"}},
		"kept":        {map[string]string{revisionAnnotation: "5"}, 5, map[string]string{revisionAnnotation: "5", "team": "x"}},
	} {
		t.Run(name, func(t *testing.T) {
			d := deployment(1, intstr.FromInt32(1), intstr.FromInt32(0))
			d.Annotations = map[string]string{"team": "x", revisionAnnotation: "9", corev1.LastAppliedConfigAnnotation: "{}"}
			rs := set("rs", 1, 1, 1, tc.have)
			annotateNew(d, rs, tc.revision, true)
			if diff := cmp.Diff(tc.want, rs.Annotations); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestProgress(t *testing.T) {
	now := time.Unix(100000, 0)
	at := func(s int64) metav1.Time { return metav1.NewTime(now.Add(time.Duration(s) * time.Second)) }
	progressing := func(reason string, updated int64) []appsv1.DeploymentCondition {
		return []appsv1.DeploymentCondition{{Type: appsv1.DeploymentProgressing, Status: corev1.ConditionTrue, Reason: reason, LastUpdateTime: at(updated), LastTransitionTime: at(updated)}}
	}
	for name, tc := range map[string]struct {
		old     appsv1.DeploymentStatus
		new     *appsv1.ReplicaSet
		reason  string
		message string
	}{
		"complete": {appsv1.DeploymentStatus{Conditions: progressing(reasonNewSet, -5)}, set("s", 2, 2, 1, nil), reasonComplete, `ReplicaSet "s" has successfully progressed.`},
		"progress": {appsv1.DeploymentStatus{Conditions: progressing(reasonNewSet, -5)}, set("s", 2, 1, 1, nil), reasonUpdated, `ReplicaSet "s" is progressing.`},
		"too late": {
			appsv1.DeploymentStatus{Replicas: 2, UpdatedReplicas: 2, AvailableReplicas: 1, Conditions: progressing(reasonUpdated, -601)},
			set("s", 2, 1, 1, nil), reasonTimedOut, `ReplicaSet "s" has timed out progressing.`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := deployment(2, intstr.FromInt32(1), intstr.FromInt32(0))
			sets := []*appsv1.ReplicaSet{tc.new}
			st := countDeployment(d, &tc.old, sets, tc.new, now)
			progress(d, &tc.old, &st, sets, tc.new, now)
			c := deploymentCondition(&st, appsv1.DeploymentProgressing)
			if c == nil || c.Reason != tc.reason || c.Message != tc.message {
				t.Errorf("got %+v, want %s %q", c, tc.reason, tc.message)
			}
		})
	}
}
