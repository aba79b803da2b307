package resource

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/yaml"
)

// read is an object with the defaults of its kind.
func read[T any](t *testing.T, s Strategy, text string) *T {
	t.Helper()
	out := new(T)
	if err := yaml.UnmarshalStrict([]byte(text), out); err != nil {
		t.Fatal(err)
	}
	if s.Default != nil {
		s.Default(any(out).(anyObject))
	}
	return out
}

func lines(list field.ErrorList) string {
	out := make([]string, 0, len(list))
	for _, e := range list {
		out = append(out, e.Error())
	}
	return strings.Join(out, "\n")
}

func TestResourceClaims(t *testing.T) {
	request := "spec: {devices: {requests: [{name: r1, exactly: {deviceClassName: c, %}}]}}"
	for name, tc := range map[string]struct{ text, want string }{
		"plain":    {"allocationMode: All", ""},
		"selector": {`selectors: [{cel: {expression: "device.attributes['a.b'].c == 1 && device.allowMultipleAllocations"}}]`, ""},
		"selector of nothing": {
			"selectors: [{}]", "spec.devices.requests[0].exactly.selectors[0].cel: Required value",
		},
		"selector of a string": {
			`selectors: [{cel: {expression: "device.driver"}}]`,
			`spec.devices.requests[0].exactly.selectors[0].cel.expression: Invalid value: "device.driver": must evaluate to bool or the unknown type, not string`,
		},
		"too dear": {
			`selectors: [{cel: {expression: "device.attributes.all(a, device.attributes.all(b, device.attributes.all(c, device.attributes.all(d, a == b && c == d))))"}}]`,
			"spec.devices.requests[0].exactly.selectors[0].cel.expression: Forbidden: too complex, exceeds cost limit",
		},
		"count of all": {
			"allocationMode: All, count: 2", "spec.devices.requests[0].exactly.count: Invalid value: 2: must not be specified when allocationMode is 'All'",
		},
		// The declared rules come last.
		"toleration": {
			"tolerations: [{key: a, value: b c, effect: X}], count: -1", `spec.devices.requests[0].exactly.count: Invalid value: -1: must be greater than zero
spec.devices.requests[0].exactly.tolerations[0].value: Invalid value: "b c": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')
spec.devices.requests[0].exactly.tolerations[0].effect: Unsupported value: "X": supported values: "NoExecute", "NoSchedule", "None"`,
		},
	} {
		c := read[resourcev1.ResourceClaim](t, resourceClaim(), strings.Replace(request, "%", tc.text, 1))
		if diff := cmp.Diff(tc.want, lines(validateResourceClaim(c))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestResourceClaimStatus(t *testing.T) {
	s := resourceClaim()
	old := read[resourcev1.ResourceClaim](t, s, "spec: {devices: {requests: [{name: r1, exactly: {deviceClassName: c}}]}}")
	c := old.DeepCopy()
	result := resourcev1.DeviceRequestAllocationResult{Request: "r1", Driver: "d", Pool: "p", Device: "x"}
	c.Status = resourcev1.ResourceClaimStatus{
		Allocation:  &resourcev1.AllocationResult{Devices: resourcev1.DeviceAllocationResult{Results: []resourcev1.DeviceRequestAllocationResult{result}}},
		ReservedFor: []resourcev1.ResourceClaimConsumerReference{{Resource: "pods", Name: "a", UID: "1"}},
		Devices:     []resourcev1.AllocatedDeviceStatus{{Driver: "d", Pool: "p", Device: "x"}},
	}
	if got := validateResourceClaimStatus(c, old); len(got) > 0 {
		t.Errorf("an allocation: %v", got)
	}
	moved := c.DeepCopy()
	moved.Status.Allocation.Devices.Results[0].Device = "y"
	moved.Status.Devices = nil
	if diff := cmp.Diff("status.allocation: Invalid value: null: field cannot be modified once set", lines(validateResourceClaimStatus(moved, c))); diff != "" {
		t.Errorf("another allocation (-want +got):\n%s", diff)
	}
	freed := c.DeepCopy()
	freed.Status.Allocation = nil
	s.PrepareStatus(freed, c)
	if freed.Status.Devices != nil {
		t.Errorf("a claim that is freed still tells of %v", freed.Status.Devices)
	}
	twice := c.DeepCopy()
	twice.Status.ReservedFor = append(twice.Status.ReservedFor, twice.Status.ReservedFor[0])
	share := types.UID("X")
	twice.Status.Allocation.Devices.Results[0].ShareID = &share
	want := `status.devices[0]: Invalid value: {"Driver":"d","Pool":"p","Device":"x","ShareID":""}: must be an allocated device in the claim
status.allocation.devices.results[0].shareID: Invalid value: "X": must be a lowercase UUID in 8-4-4-4-12 format
status.reservedFor[1]: Duplicate value: {"resource":"pods","name":"a","uid":"1"}`
	if diff := cmp.Diff(want, lines(validateResourceClaimStatus(twice, old))); diff != "" {
		t.Errorf("two reservations for one (-want +got):\n%s", diff)
	}
}

func TestResourceSlices(t *testing.T) {
	s := resourceSlice()
	slice := "spec: {driver: d, nodeName: n, pool: {name: p, resourceSliceCount: 1}, devices: [{name: a, %}]}"
	at := "spec.devices[0]"
	for name, tc := range map[string]struct{ text, want string }{
		"plain": {"attributes: {a: {int: 1}, b.c/d: {version: 1.2.3}}, capacity: {m: {value: 1Gi}}", ""},
		"an attribute of nothing": {
			"attributes: {a: {}}", at + ".attributes[a]: Invalid value: \"\": must specify one of: `int`, `bool`, `string`, `version`, `ints`, `bools`, `strings`, `versions`",
		},
		"an attribute without a domain": {"attributes: {/a: {int: 1}}", at + `.attributes: Invalid value: "": the domain must not be empty`},
		"a policy of one user": {
			"capacity: {m: {value: 1, requestPolicy: {}}}", at + ".capacity[m].requestPolicy: Forbidden: allowMultipleAllocations must be true",
		},
		"a step that misses": {
			"allowMultipleAllocations: true, capacity: {m: {value: 10, requestPolicy: {default: 1, validRange: {min: 1, max: 4, step: 2}}}}",
			at + `.capacity[m].requestPolicy.validRange.step: Invalid value: "4": value is not a multiple of a given step (2) from (1)`,
		},
		"a step that is larger than a number": {
			"allowMultipleAllocations: true, capacity: {m: {value: '36893488147419103232', requestPolicy: {default: 1, validRange: {min: 1, step: '18446744073709551616'}}}}",
			at + `.capacity[m].requestPolicy.validRange.step: Invalid value: "18446744073709551616": must not be larger than 9223372036854775807`,
		},
		"bound for ever": {
			"bindingConditions: [a]", at + ".bindingFailureConditions: Invalid value: null: bindingFailureConditions are required to use bindingConditions",
		},
		"counters": {
			"consumesCounters: [{counterSet: a, counters: {}}]", at + ".consumesCounters[0].counters: Required value",
		},
	} {
		x := read[resourcev1.ResourceSlice](t, s, strings.Replace(slice, "%", tc.text, 1))
		if diff := cmp.Diff(tc.want, lines(validateResourceSlice(x))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	// What is alpha is dropped, unless it is there already.
	old := read[resourcev1.ResourceSlice](t, s, strings.Replace(slice, "%", "attributes: {a: {ints: [1]}}", 1))
	fresh := old.DeepCopy()
	s.PrepareCreate(fresh)
	if got := fresh.Spec.Devices[0].Attributes["a"].IntValues; got != nil {
		t.Errorf("a new slice keeps %v", got)
	}
	kept := old.DeepCopy()
	s.PrepareUpdate(kept, old)
	if got := kept.Spec.Devices[0].Attributes["a"].IntValues; len(got) != 1 {
		t.Errorf("an old slice keeps %v", got)
	}
}
