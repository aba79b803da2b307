package main

import (
	"fmt"
	"strings"
)

const (
	jsonPatch      = "application/json-patch+json"
	mergePatch     = "application/merge-patch+json"
	strategicPatch = "application/strategic-merge-patch+json"
	applyPatch     = "application/apply-patch+yaml"
	manager        = "?fieldManager=abuse"
)

func operations(n int, each func(i int) string) string { return "[" + join(n, each) + "]" }

// patches are those of each sort.
func patches() []attack {
	const group = "Patches"
	copies := func(n int, from string) string {
		return operations(n, func(i int) string { return fmt.Sprintf(`{"op":"copy","from":%q,"path":"/data/k%d"}`, from, i) })
	}
	return []attack{
		{group: group, name: "JSON patch of 10,001 operations", want: []string{"413"}, run: ask(patch(victim, jsonPatch, operations(10_001, func(int) string { return `{"op":"test","path":"/kind","value":"ConfigMap"}` })))},
		{group: group, name: "JSON patch of 60,000 operations, four at once", want: []string{"413"}, memory: 256 * mib, run: lazily(4, func() request {
			return patch(victim, jsonPatch, operations(60_000, func(int) string { return `{"op":"remove","path":"/data"}` }))
		})},
		{group: group, name: "copies that double, 2^40 bytes", want: []string{"413", "422"}, run: ask(patch(victim, jsonPatch, operations(40, func(i int) string { return fmt.Sprintf(`{"op":"copy","from":"/data","path":"/data/k%d"}`, i) })))},
		{group: group, name: "9,000 copies of 900,000 bytes", want: []string{"413", "422"}, run: ask(patch(configMaps+"/large", jsonPatch, copies(9_000, "/data/a")))},
		{group: group, name: "9,000 copies of 900,000 bytes, four at once", want: []string{"413", "422"}, memory: 256 * mib, run: many(4, patch(configMaps+"/large", jsonPatch, copies(9_000, "/data/a")))},
		{group: group, name: "10,000 tests and a failure", want: []string{"422"}, run: ask(patch(configMaps+"/large", jsonPatch, operations(10_000, func(i int) string {
			return fmt.Sprintf(`{"op":"test","path":"/kind","value":%q}`, map[bool]string{true: "Other", false: "ConfigMap"}[i == 9_999])
		})))},
		{group: group, name: "a path of 100,000 steps", want: []string{"422"}, run: ask(patch(victim, jsonPatch, `[{"op":"add","path":"`+strings.Repeat("/a", 100_000)+`","value":1}]`))},
		{group: group, name: "an array's index of 2^31", want: []string{"422"}, run: ask(patch(victim, jsonPatch, `[{"op":"add","path":"/metadata/finalizers","value":[]},{"op":"add","path":"/metadata/finalizers/2147483647","value":"a/b"}]`))},
		{group: group, name: "an array's index of -2^63", want: []string{"422"}, run: ask(patch(victim, jsonPatch, `[{"op":"add","path":"/metadata/finalizers","value":["a/b"]},{"op":"replace","path":"/metadata/finalizers/-9223372036854775808","value":"a/b"}]`))},
		{group: group, name: "JSON patch that copies a parent into its child", want: []string{"422", "400"}, run: ask(patch(victim, jsonPatch, `[{"op":"copy","from":"","path":"/metadata"},{"op":"move","from":"/metadata","path":"/metadata/metadata"}]`))},
		{group: group, name: "JSON patch nested 12,000 deep", want: []string{"400"}, run: ask(patch(victim, jsonPatch, `[{"op":"add","path":"/data/a","value":`+nested(12_000, "[", "", "]")+`}]`))},
		{group: group, name: "JSON patch of a value nested 9,000 deep", want: []string{"400", "422"}, run: ask(patch(victim, jsonPatch, `[{"op":"add","path":"/data/a","value":`+nested(9_000, `{"a":`, "1", "}")+`}]`))},
		{group: group, name: "merge patch nested 12,000 deep", want: []string{"400"}, run: ask(patch(victim, mergePatch, nested(12_000, `{"a":`, "1", "}")))},
		{group: group, name: "merge patch nested 9,900 deep around 2 MiB", want: []string{"400", "422"}, run: lazily(1, func() request {
			return patch(victim, mergePatch, `{"data":`+nested(9_900, `{"a":`, `"`+strings.Repeat("x", 2*mib)+`"`, "}")+"}")
		})},
		{group: group, name: "merge patch of a custom resource nested 9,900 deep around 2 MiB", want: []string{"400", "404"}, run: lazily(1, func() request {
			return patch(open+"/none", mergePatch, nested(9_900, `{"a":`, `"`+strings.Repeat("x", 2*mib)+`"`, "}"))
		})},
		{group: group, name: "strategic merge patch nested 12,000 deep", want: []string{"400"}, run: ask(patch(victim, strategicPatch, nested(12_000, `{"a":`, "1", "}")))},
		{group: group, name: "strategic merge patch nested 9,900 deep around 2 MiB", want: []string{"400", "422"}, run: lazily(1, func() request {
			return patch(victim, strategicPatch, `{"data":`+nested(9_900, `{"a":`, `"`+strings.Repeat("x", 2*mib)+`"`, "}")+"}")
		})},
		{group: group, name: "strategic merge patch of 150,000 containers", want: []string{"413", "422"}, memory: 192 * mib, run: lazily(1, func() request {
			return patch("/api/v1/namespaces/abuse/pods/pod", strategicPatch, `{"spec":{"containers":[`+join(150_000, func(i int) string { return fmt.Sprintf(`{"name":"c%d"}`, i) })+`]}}`)
		})},
		{group: group, name: "strategic merge patch that orders 150,000 containers", want: []string{"400", "413", "422"}, memory: 192 * mib, run: lazily(1, func() request {
			return patch("/api/v1/namespaces/abuse/pods/pod", strategicPatch, `{"spec":{"$setElementOrder/containers":[`+join(150_000, func(i int) string { return fmt.Sprintf(`{"name":"c%d"}`, i) })+`],"containers":[{"name":"c"}]}}`)
		})},
		{group: group, name: "strategic merge patch with directives of the wrong types, as upstream", want: []string{"400", "422", "500"}, run: ask(patch("/api/v1/namespaces/abuse/pods/pod", strategicPatch, `{"spec":{"$patch":7,"$retainKeys":{"a":1},"containers":[{"$patch":"delete"},{"name":[]},7]}}`))},
		{group: group, name: "apply: YAML aliases of aliases", want: []string{"400", "413"}, run: ask(patch(victim+manager, applyPatch, headYAML+laughs(10)))},
		{group: group, name: "apply: YAML aliases of one large text, 20 GB", want: []string{"400", "413"}, run: lazily(1, func() request { return patch(victim+manager, applyPatch, headYAML+echoes(200_000, 100_000)) })},
		{group: group, name: "apply: nested 12,000 deep", want: []string{"400"}, run: ask(patch(victim+manager, applyPatch, headYAML+"data: "+nested(12_000, "[", "", "]")))},
		{group: group, name: "apply: nested 9,900 deep", want: []string{"400", "422", "500"}, run: ask(patch(victim+manager, applyPatch, headYAML+"data: "+nested(9_900, `{"a":`, "1", "}")))},
		{group: group, name: "apply: 150,000 containers", want: []string{"400", "413", "422"}, memory: 384 * mib, run: lazily(1, func() request {
			return patch("/api/v1/namespaces/abuse/pods/pod"+manager, applyPatch, `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"pod"},"spec":{"containers":[`+join(150_000, func(i int) string { return fmt.Sprintf(`{"name":"c%d"}`, i) })+`]}}`)
		})},
		{group: group, name: "apply: a duplicate key, strict", want: []string{"400"}, run: ask(patch(victim+manager+"&fieldValidation=Strict", applyPatch, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: victim}\ndata: {b: c, b: d}\n"))},
		{group: group, name: "managed fields nested 9,000 deep", want: []string{"400", "409", "422"}, run: ask(patch(victim, mergePatch, `{"metadata":{"resourceVersion":"1","managedFields":[{"manager":"m","operation":"Update","apiVersion":"v1","fieldsType":"FieldsV1","fieldsV1":`+nested(9_000, `{"f:a":`, "{}", "}")+`}]}}`))},
		{group: group, name: "the content type of no patch", want: []string{"415"}, run: ask(patch(victim, "application/json", `{}`))},
		{group: group, name: "a strategic merge patch of a custom resource", want: []string{"415"}, run: ask(patch(open+"/none", strategicPatch, `{}`))},
	}
}
