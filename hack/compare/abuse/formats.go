package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"strings"
)

// laughs is YAML in which each of n anchors has ten times the one before it.
func laughs(n int) string {
	var b strings.Builder
	b.WriteString("a0: &a0 [lol,lol,lol,lol,lol,lol,lol,lol,lol,lol]\n")
	for i := 1; i < n; i++ {
		fmt.Fprintf(&b, "a%d: &a%d [%s]\n", i, i, join(10, func(int) string { return fmt.Sprintf("*a%d", i-1) }))
	}
	return b.String()
}

// echoes is YAML that has a text of size bytes n times, by one anchor.
func echoes(size, n int) string {
	return "a: &a " + strings.Repeat("x", size) + "\nb: [" + join(n, func(int) string { return "*a" }) + "]\n"
}

const headYAML = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: abuse}\n"

// formats are YAML, protobuf and JSON that are not what they should be, and media types that are none.
func formats() []attack {
	const group = "Formats"
	const dry = configMaps + "?dryRun=All"
	list := []attack{
		{group: group, name: "YAML aliases of aliases", want: []string{"400", "413"}, run: ask(post(configMaps, mediaYAML, headYAML+laughs(10)))},
		{group: group, name: "YAML aliases of aliases, strict", want: []string{"400", "413"}, run: ask(post(configMaps+"?fieldValidation=Strict", mediaYAML, headYAML+laughs(10)))},
		{group: group, name: "YAML aliases of one large text, 20 GB", want: []string{"400", "413"}, run: lazily(1, func() request { return post(configMaps, mediaYAML, headYAML+echoes(200_000, 100_000)) })},
		{group: group, name: "YAML aliases of one large text as a custom resource", want: []string{"400", "413"}, run: lazily(1, func() request {
			return post(open, mediaYAML, "apiVersion: abuse.example.com/v1\nkind: Open\nmetadata: {name: echo}\n"+echoes(200_000, 100_000))
		})},
		{group: group, name: "YAML merges of merges", want: []string{"400", "413"}, run: ask(post(configMaps, mediaYAML, headYAML+merges(14)))},
		{group: group, name: "YAML flow nested 500,000 deep", want: []string{"400"}, run: lazily(1, func() request { return post(configMaps, mediaYAML, headYAML+"data: "+nested(500_000, "[", "", "]")) })},
		{group: group, name: "YAML block nested 500,000 deep", want: []string{"400"}, run: lazily(1, func() request { return post(configMaps, mediaYAML, headYAML+"data:\n"+strings.Repeat("- ", 500_000)) })},
		{group: group, name: "YAML of 1,000,000 keys that are complex", want: []string{"400"}, run: lazily(1, func() request { return post(configMaps, mediaYAML, headYAML+strings.Repeat("? ", 1_000_000)) })},
		{group: group, name: "YAML of 3 MiB of opening braces with colons", want: []string{"400"}, run: lazily(1, func() request { return post(configMaps, mediaYAML, headYAML+strings.Repeat("{:", 1_400_000)) })},
		{group: group, name: "YAML tagged as binary and as nothing known", want: []string{"400"}, run: ask(post(configMaps, mediaYAML, headYAML+"data: !!binary ////\nbinaryData: !!python/object:os.system x\n"))},
		{group: group, name: "protobuf: garbage", want: []string{"400"}, run: ask(post(dry, mediaProtobuf, "k8s\x00\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"))},
		{group: group, name: "protobuf: a length of 2^63", want: []string{"400"}, run: ask(post(dry, mediaProtobuf, envelope("v1", "ConfigMap", "\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7f")))},
		{group: group, name: "protobuf: an unknown object within itself, 100,000 times", want: []string{"400"}, run: lazily(1, func() request { return post(dry, mediaProtobuf, unknowns(100_000)) })},
		{group: group, name: "protobuf: groups nested 1,000,000 deep", want: []string{"400", "422"}, run: lazily(1, func() request {
			return post(dry, mediaProtobuf, envelope("v1", "ConfigMap", nested(1_000_000, "\x7b", "", "\x7c")))
		})},
		{group: group, name: "protobuf: a schema nested 400,000 deep", want: []string{"400", "422"}, memory: 256 * mib, run: lazily(1, func() request {
			return post(crds+"?dryRun=All", mediaProtobuf, envelope("apiextensions.k8s.io/v1", "CustomResourceDefinition", deepSchema(400_000)))
		})},
		{group: group, name: "protobuf: of a custom resource", want: []string{"415"}, run: ask(post(open, mediaProtobuf, envelope("abuse.example.com/v1", "Open", "")))},
		{group: group, name: "CBOR nested 1,000,000 deep", want: []string{"415"}, run: lazily(1, func() request { return post(dry, "application/cbor", strings.Repeat("\x81", 1_000_000)) })},
		{group: group, name: "a duplicate key, strict", want: []string{"400"}, run: ask(post(configMaps+"?fieldValidation=Strict", "", configMap(`},"data":{"a":"1","a":"2"}`)))},
		{group: group, name: "a duplicate key in YAML, strict", want: []string{"400"}, run: ask(post(configMaps+"?fieldValidation=Strict", mediaYAML, headYAML+"data: {a: b, a: c}\n"))},
		{group: group, name: "a duplicate key, with a warning and not stored", want: []string{fine}, run: warned(post(dry+"&fieldValidation=Warn", "", configMap(`},"data":{"a":"1","a":"2"}`)))},
		{group: group, name: "invalid UTF-8 in a name", want: []string{"422"}, run: ask(post(configMaps, "", `{"metadata":{"name":"a`+"\xff"+`b"}}`))},
		{group: group, name: "invalid UTF-8 in a label", want: []string{"422"}, run: ask(post(configMaps, "", configMap(`,"labels":{"a`+"\xff"+`":"`+"\xc3("+`"}}`)))},
		{group: group, name: "invalid UTF-8 in a key", want: []string{"422"}, run: ask(post(configMaps, "", configMap(`},"data":{"`+"\xed\xa0\x80"+`":""}`)))},
		{group: group, name: "invalid UTF-8 in the name, in protobuf", want: []string{"400", "422"}, run: ask(post(configMaps, mediaProtobuf, envelope("v1", "ConfigMap", field(1, field(1, "a\xffb")))))},
		{group: group, name: "invalid UTF-8 in a label, in protobuf", want: []string{"400", "422"}, run: ask(post(configMaps, mediaProtobuf, envelope("v1", "ConfigMap", field(1, field(1, "abuse")+field(11, field(1, "a")+field(2, "\xff"))))))},
		{group: group, name: "invalid UTF-8 in YAML", want: []string{"400"}, run: ask(post(configMaps, mediaYAML, headYAML+"data: {a: \"\xff\"}\n"))},
	}
	for _, mime := range []string{"text/plain", "application/xml", "multipart/form-data", "application/json-patch+json", "application/json; charset=\xff", "*/*", ";", strings.Repeat("a/", 10_000)} {
		list = append(list, attack{group: group, name: fmt.Sprintf("the content type %.40q", mime), want: []string{"415"}, run: ask(post(dry, mime, configMap("}")))})
	}
	for _, accept := range []string{"image/png", "application/json;as=Nonsense;v=v1;g=meta.k8s.io", "application/json;q=x", strings.Repeat("text/plain,", 50_000) + "image/png"} {
		r := get(configMaps)
		r.accept = accept
		list = append(list, attack{group: group, name: fmt.Sprintf("Accept: %.60s", accept), want: []string{"406"}, run: ask(r)})
	}
	return list
}

// warned is ok where a request succeeds with a warning.
func warned(r request) func(context.Context, *target) (answers, error) {
	return func(ctx context.Context, t *target) (answers, error) {
		warnings := 0
		r.warnings = &warnings
		code, _, err := t.do(ctx, r)
		if code == "201" && warnings > 0 {
			code = fine
		}
		return one(code), err
	}
}

// merges is YAML in which each of n maps merges the one before it twice.
func merges(n int) string {
	var b strings.Builder
	b.WriteString("m0: &m0 {" + join(1000, func(i int) string { return fmt.Sprintf("k%d: v", i) }) + "}\n")
	for i := 1; i < n; i++ {
		fmt.Fprintf(&b, "m%d: &m%d {<<: [%s]}\n", i, i, join(10, func(int) string { return fmt.Sprintf("*m%d", i-1) }))
	}
	return b.String()
}

// field is a protobuf field of bytes.
func field(n uint64, value string) string {
	head := binary.AppendUvarint(binary.AppendUvarint(nil, n<<3|2), uint64(len(value)))
	return string(head) + value
}

// envelope is how objects are framed in protobuf.
func envelope(version, kind, raw string) string {
	return "k8s\x00" + field(1, field(1, version)+field(2, kind)) + field(2, raw)
}

// unknowns is an envelope whose object is one, n times. It is made from within: each head stands before what it is of.
func unknowns(n int) string {
	parts, size := make([]string, n), 0
	typed := field(1, field(1, "v1")+field(2, "ConfigMap"))
	for i := range parts {
		head := "k8s\x00" + typed + string(binary.AppendUvarint([]byte{2<<3 | 2}, uint64(size)))
		parts[i] = head
		size += len(head)
	}
	return reversed(parts)
}

// deepSchema is a definition whose schema is the negation of one, n times.
func deepSchema(n int) string {
	parts, size := make([]string, n), 0
	for i := range parts {
		head := string(binary.AppendUvarint(binary.AppendUvarint(nil, 28<<3|2), uint64(size))) // JSONSchemaProps.not
		parts[i] = head
		size += len(head)
	}
	version := field(1, "v1") + "\x10\x01\x18\x01" + field(4, field(1, reversed(parts)))
	spec := field(1, "abuse.example.com") + field(3, field(1, "deeps")+field(4, "Deep")) + field(4, "Namespaced") + field(7, version)
	return field(1, field(1, "deeps.abuse.example.com")) + field(2, spec)
}

func reversed(parts []string) string {
	var b strings.Builder
	for i := len(parts) - 1; i >= 0; i-- {
		b.WriteString(parts[i])
	}
	return b.String()
}
