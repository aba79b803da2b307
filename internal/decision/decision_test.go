package decision

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	decisionv1 "flagship/proto/decision/v1"
)

func names(t *testing.T, l *Log, req *decisionv1.ListRequest) []string {
	t.Helper()
	resp, err := l.Server().List(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, d := range resp.GetDecisions() {
		out = append(out, fmt.Sprintf("%s:%s", d.GetName(), d.GetVerdict()))
	}
	return out
}

func TestRingKeepsTheNewest(t *testing.T) {
	l := NewLog("kube-test", 3)
	for i := range 5 {
		l.Record(Entry{Name: fmt.Sprint(i), Kind: "Pod", Verdict: "v"})
	}
	if diff := cmp.Diff([]string{"2:v", "3:v", "4:v"}, names(t, l, &decisionv1.ListRequest{})); diff != "" {
		t.Errorf("all (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"4:v"}, names(t, l, &decisionv1.ListRequest{Limit: 1})); diff != "" {
		t.Errorf("limit (-want +got):\n%s", diff)
	}
}

func TestSelectsAndFolds(t *testing.T) {
	l := NewLog("kube-test", 10)
	at := time.Unix(100, 0)
	l.Record(Entry{UID: "u1", Name: "a", Namespace: "x", Kind: "Pod", Verdict: "Unschedulable", Time: at})
	l.Record(Entry{UID: "u1", Name: "a", Namespace: "x", Kind: "Pod", Verdict: "Unschedulable", Time: at.Add(time.Second)})
	l.Record(Entry{UID: "u2", Name: "b", Namespace: "x", Kind: "Pod", Verdict: "Scheduled", Time: at})
	l.Record(Entry{UID: "u1", Name: "a", Namespace: "x", Kind: "Pod", Verdict: "Scheduled", Time: at})
	for scenario, tc := range map[string]struct {
		req  *decisionv1.ListRequest
		want []string
	}{
		"by UID":       {&decisionv1.ListRequest{Uid: "u1", Name: "ignored"}, []string{"a:Unschedulable", "a:Scheduled"}},
		"by name":      {&decisionv1.ListRequest{Kind: "Pod", Namespace: "x", Name: "b"}, []string{"b:Scheduled"}},
		"by namespace": {&decisionv1.ListRequest{Namespace: "y"}, nil},
	} {
		if diff := cmp.Diff(tc.want, names(t, l, tc.req)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", scenario, diff)
		}
	}
}
