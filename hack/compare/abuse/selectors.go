package main

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/url"
	"strings"
)

// selectors are those of labels and fields, and where a list goes on.
func selectors() []attack {
	const group = "Selectors and tokens of lists"
	by := func(name, value string) request { return get(configMaps + "?" + name + "=" + url.QueryEscape(value)) }
	token := func(json string) request { return by("continue", base64.RawURLEncoding.EncodeToString([]byte(json))) }
	http1 := func(r request) request {
		r.plain = true
		return r
	}
	return []attack{
		{group: group, name: "labels of 2 MiB", want: []string{"431", closed}, run: ask(by("labelSelector", strings.Repeat("a", 2*mib)))},
		{group: group, name: "labels of 2 MiB over HTTP/1.1", want: []string{"431", closed}, run: ask(http1(by("labelSelector", strings.Repeat("a", 2*mib))))},
		{group: group, name: "labels of 2 MiB of nobody, 20 at once", want: []string{"431", closed}, memory: 160 * mib, run: many(20, by("labelSelector", strings.Repeat("a", 2*mib)).as(nobody))},
		{group: group, name: "100,000 values of a label", want: []string{"200"}, run: lazily(1, func() request {
			return by("labelSelector", "a in ("+join(100_000, func(i int) string { return fmt.Sprintf("v%d", i) })+")")
		})},
		{group: group, name: "20,000 labels", want: []string{"200"}, run: lazily(1, func() request {
			return by("labelSelector", join(20_000, func(i int) string { return fmt.Sprintf("k%d!=v", i) }))
		})},
		{group: group, name: "20,000 labels of nobody, ten at once", want: []string{"403"}, run: lazily(10, func() request {
			return by("labelSelector", join(20_000, func(i int) string { return fmt.Sprintf("k%d!=v", i) })).as(nobody)
		})},
		{group: group, name: "20,000 fields", want: []string{"200"}, run: lazily(1, func() request {
			return by("fieldSelector", join(20_000, func(i int) string { return fmt.Sprintf("metadata.name!=n%d", i) }))
		})},
		{group: group, name: "20,000 fields that are none", want: []string{"400"}, run: lazily(1, func() request {
			return by("fieldSelector", join(20_000, func(i int) string { return fmt.Sprintf("f%d!=n", i) }))
		})},
		{group: group, name: "300,000 parentheses", want: []string{"400"}, run: ask(by("labelSelector", strings.Repeat("(", 300_000)))},
		{group: group, name: "300,000 backslashes in fields", want: []string{"400"}, run: ask(by("fieldSelector", "metadata.name="+strings.Repeat(`\`, 300_001)))},
		{group: group, name: "labels that are not UTF-8", want: []string{"400"}, run: ask(by("labelSelector", "a=\xff"))},
		{group: group, name: "labels with a NUL, at which they end", want: []string{"200", "400"}, run: ask(by("labelSelector", "a=\x00"))},
		{group: group, name: "a limit of 2^64", want: []string{"400"}, run: ask(by("limit", "18446744073709551616"))},
		{group: group, name: "a revision of 2^64", want: []string{"400"}, run: ask(by("resourceVersion", "18446744073709551616"))},
		{group: group, name: "a revision far ahead", want: []string{"504"}, run: ask(by("resourceVersion", "999999999999"))},
		{group: group, name: "a continue token of no base64", want: []string{"400"}, run: ask(by("continue", "\xff%"))},
		{group: group, name: "a continue token of no JSON", want: []string{"400"}, run: ask(token("{"))},
		{group: group, name: "a continue token nested 100,000 deep", want: []string{"400"}, run: ask(token(nested(100_000, "[", "", "]")))},
		{group: group, name: "a continue token that leads elsewhere", want: []string{"400"}, run: ask(token(`{"v":"meta.k8s.io/v1","rv":1,"start":"../secrets/abuse/hidden"}`))},
		{group: group, name: "a continue token that leads elsewhere, without dots", want: []string{"400", "410"}, run: ask(token(`{"v":"meta.k8s.io/v1","rv":-1,"start":"kube-system/x"}`))},
		{group: group, name: "a continue token of a revision far ahead", want: []string{"400", "410", "500", "504"}, run: ask(token(`{"v":"meta.k8s.io/v1","rv":999999999999,"start":"abuse/x"}`))},
		{group: group, name: "a continue token of a negative revision", want: []string{fine, "nothing", "400", "410"}, run: keeps(token(`{"v":"meta.k8s.io/v1","rv":-9223372036854775808,"start":"abuse/x"}`), "abuse")},
		{group: group, name: "a continue token with a NUL", want: []string{fine, "400"}, run: keeps(token(`{"v":"meta.k8s.io/v1","rv":-1,"start":"abuse/\u0000"}`), "abuse")},
		{group: group, name: "a timeout that is none", want: []string{"400"}, run: ask(by("timeout", "1e9999h"))},
	}
}

// keeps is ok where a list is answered that has objects of one namespace alone.
func keeps(r request, namespace string) func(context.Context, *target) (answers, error) {
	return func(ctx context.Context, t *target) (answers, error) {
		code, data, err := t.do(ctx, r)
		if err != nil || code != "200" {
			return one(code), err
		}
		return one(within(data, namespace)), nil
	}
}
