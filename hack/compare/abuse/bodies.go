package main

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"strings"
)

const (
	mediaYAML     = "application/yaml"
	mediaProtobuf = "application/vnd.kubernetes.protobuf"
	mib           = 1 << 20
)

// configMap is one with this after its name.
func configMap(more string) string {
	return `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"abuse"` + more + `}`
}

// spaces are n bytes that are not made before they are read.
func spaces(n int64) func() io.Reader {
	return func() io.Reader { return io.LimitReader(blank{}, n) }
}

type blank struct{}

func (blank) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

// bodies are large, packed and deep ones.
func bodies() []attack {
	const group = "Bodies"
	return []attack{
		{group: group, name: "JSON of 3 MiB and a byte", want: []string{"413"}, run: lazily(1, func() request {
			return post(configMaps, "", configMap(`},"data":{"a":"`+strings.Repeat("x", 3*mib)+`"}`))
		})},
		{group: group, name: "64 MiB, four at once", want: []string{"413"}, run: many(4, request{method: "POST", path: configMaps, stream: spaces(64 * mib)})},
		{group: group, name: "64 MiB over HTTP/1.1, four at once", want: []string{"413", closed}, run: many(4, request{method: "POST", path: configMaps, stream: spaces(64 * mib), plain: true})},
		{group: group, name: "64 MiB of nobody, eight at once", want: []string{"403", closed}, memory: 32 * mib, run: many(8, request{method: "POST", path: configMaps, token: nobody, stream: spaces(64 * mib)})},
		{group: group, name: "64 MiB of nobody over HTTP/1.1, eight at once", want: []string{"403", closed}, memory: 32 * mib, run: many(8, request{method: "POST", path: configMaps, token: nobody, stream: spaces(64 * mib), plain: true})},
		{group: group, name: "64 MiB with a bad token, eight at once", want: []string{"401", closed}, memory: 32 * mib, run: many(8, request{method: "POST", path: configMaps, token: "bad", stream: spaces(64 * mib)})},
		{group: group, name: "a patch of 64 MiB", want: []string{"413"}, run: ask(request{method: "PATCH", path: victim, mime: "application/merge-patch+json", stream: spaces(64 * mib)})},
		{group: group, name: "delete options of 64 MiB", want: []string{"413"}, run: ask(request{method: "DELETE", path: victim, stream: spaces(64 * mib)})},
		{group: group, name: "an access review of 64 MiB", want: []string{"413"}, run: ask(request{method: "POST", path: "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", stream: spaces(64 * mib)})},
		{group: group, name: "a bomb packed by gzip, 64 MiB in 64 KiB", want: []string{"400", "415"}, run: lazily(1, func() request {
			r := post(configMaps, "", packed(64*mib))
			r.header = http.Header{"Content-Encoding": {"gzip"}}
			return r
		})},
		{group: group, name: "JSON objects nested 12,000 deep", want: []string{"400"}, run: ask(post(configMaps, "", configMap(`},"data":`+nested(12_000, `{"a":`, "1", "}"))))},
		{group: group, name: "JSON arrays nested 1,500,000 deep", want: []string{"400"}, run: lazily(1, func() request { return post(configMaps, "", nested(1_500_000, "[", "", "]")) })},
		{group: group, name: "JSON of a custom resource nested 12,000 deep", want: []string{"400"}, run: ask(post(open, "", `{"apiVersion":"abuse.example.com/v1","kind":"Open","metadata":{"name":"deep"},"spec":`+nested(12_000, `{"a":`, "1", "}")+`}`))},
		{group: group, name: "300,000 duplicate keys, strict", want: []string{"400"}, run: lazily(1, func() request {
			return post(configMaps+"?fieldValidation=Strict", "", configMap(`},"data":{`+join(300_000, func(int) string { return `"a":""` })+`}`))
		})},
		{group: group, name: "200,000 unknown fields, strict", want: []string{"400"}, run: lazily(1, func() request {
			return post(configMaps+"?fieldValidation=Strict", "", configMap(`},`+join(200_000, func(i int) string { return fmt.Sprintf(`"u%d":0`, i) })))
		})},
		{group: group, name: "200,000 labels that are none", want: []string{"413", "422"}, run: lazily(1, func() request {
			return post(configMaps, "", configMap(`,"labels":{`+join(200_000, func(i int) string { return fmt.Sprintf(`"/%d":""`, i) })+`}}`))
		})},
		{group: group, name: "200,000 finalizers that are none", want: []string{"413", "422"}, run: lazily(1, func() request {
			return post(configMaps, "", configMap(`,"finalizers":[`+join(200_000, func(i int) string { return fmt.Sprintf(`"/%d"`, i) })+`]}`))
		})},
		{group: group, name: "250,000 keys of a config map", want: []string{"413", "422"}, run: lazily(1, func() request {
			return post(configMaps, "", configMap(`},"data":{`+join(250_000, func(i int) string { return fmt.Sprintf(`"%d":""`, i) })+`}`))
		})},
		{group: group, name: "a quantity of 1,000,000 digits", want: []string{"400", "422"}, run: lazily(1, func() request {
			return post("/api/v1/namespaces/abuse/pods?dryRun=All", "", pod(`"resources":{"limits":{"cpu":"`+strings.Repeat("9", 1_000_000)+`"}}`))
		})},
		{group: group, name: "a quantity of an exponent of ten digits", want: []string{"400", "422"}, run: ask(post("/api/v1/namespaces/abuse/pods?dryRun=All", "", pod(`"resources":{"limits":{"cpu":"1e1000000000"},"requests":{"cpu":"1e-1000000000"}}`)))},
		{group: group, name: "100,000 containers", want: []string{"413", "422"}, memory: 192 * mib, run: lazily(1, func() request {
			return post("/api/v1/namespaces/abuse/pods?dryRun=All", "", `{"metadata":{"name":"abuse"},"spec":{"containers":[`+join(100_000, func(i int) string { return fmt.Sprintf(`{"name":"c%d"}`, i) })+`]}}`)
		})},
	}
}

// pod is one whose container has more.
func pod(more string) string {
	return `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"abuse"},"spec":{"automountServiceAccountToken":false,"containers":[{"name":"c","image":"i",` + more + `}]}}`
}

// packed is n spaces, packed.
func packed(n int64) string {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := io.Copy(z, spaces(n)()); err != nil {
		panic(err) // a buffer takes everything
	}
	if err := z.Close(); err != nil {
		panic(err)
	}
	return b.String()
}
