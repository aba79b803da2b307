package match

import (
	"encoding/json"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
)

func FuzzSelector(f *testing.F) {
	f.Add([]byte(`{"matchLabels":{"a":"b"},"matchExpressions":[{"key":"c","operator":"NotIn","values":["d","e"]},{"key":"f","operator":"DoesNotExist"}]}`), []byte(`{"a":"b","c":"x"}`))
	f.Add([]byte(`{}`), []byte(`{}`))
	f.Add([]byte(`{"matchExpressions":[{"key":"","operator":"In","values":[]}]}`), []byte(`null`))
	f.Fuzz(func(t *testing.T, selector, set []byte) {
		s := &metav1.LabelSelector{}
		var of labels.Set
		if json.Unmarshal(selector, s) != nil || json.Unmarshal(set, &of) != nil {
			return
		}
		sel, err := SelectorOf(s)
		if err != nil {
			return
		}
		if sel == nil {
			if len(s.MatchLabels)+len(s.MatchExpressions) > 0 {
				t.Fatalf("%s selects everything", selector)
			}
			return
		}
		if got, want := sel.Matches(of), matches(s, of); got != want {
			t.Fatalf("%s of %v: %v", selector, of, got)
		}
		again, err := labels.Parse(sel.String())
		if err != nil || again.Matches(of) != sel.Matches(of) {
			t.Fatalf("%s is %q, which is another selector: %v", selector, sel, err)
		}
	})
}

// matches is what the API's documentation says of a selector.
func matches(s *metav1.LabelSelector, of labels.Set) bool {
	for k, v := range s.MatchLabels {
		if got, ok := of[k]; !ok || got != v {
			return false
		}
	}
	for _, x := range s.MatchExpressions {
		v, there := of[x.Key]
		among := false
		for _, w := range x.Values {
			among = among || there && v == w
		}
		if !map[metav1.LabelSelectorOperator]bool{
			metav1.LabelSelectorOpIn: among, metav1.LabelSelectorOpNotIn: !among, metav1.LabelSelectorOpExists: there, metav1.LabelSelectorOpDoesNotExist: !there,
		}[x.Operator] {
			return false
		}
	}
	return true
}

func FuzzTexts(f *testing.F) {
	f.Add("a in (b,c),!d,e>5", `metadata.name=a\,b,spec.x!=y`)
	f.Add("((((", `\`)
	f.Fuzz(func(t *testing.T, label, fieldText string) {
		if s, err := labels.Parse(label); err == nil {
			if again, err := labels.Parse(s.String()); err != nil || again.String() != s.String() {
				t.Fatalf("%q is %q, which is %v, %v", label, s, again, err)
			}
		}
		if s, err := fields.ParseSelector(fieldText); err == nil {
			if again, err := fields.ParseSelector(s.String()); err != nil || again.String() != s.String() {
				t.Fatalf("%q is %q, which is %v, %v", fieldText, s, again, err)
			}
		}
	})
}
