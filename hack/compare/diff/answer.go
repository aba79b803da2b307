package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"sort"
	"strings"

	"sigs.k8s.io/yaml"

	"flagship/hack/compare/lab"
)

// request is what both servers get.
type request struct {
	method, path        string
	contentType, accept string
	body                []byte
	// user is a token other than the administrator's, "-" for none.
	user string
}

// side is one of the two servers.
type side struct{ *lab.Server }

// answer is what a server said.
type answer struct {
	code        int
	contentType string
	body        any // decoded JSON, the lines of a watch, or the text
	warnings    []string
}

// mostBody bounds an answer.
const mostBody = 32 << 20

func (s *side) do(ctx context.Context, r request) (answer, error) {
	req, err := http.NewRequestWithContext(ctx, r.method, s.Base+r.path, bytes.NewReader(r.body))
	if err != nil {
		return answer{}, err
	}
	switch r.user {
	case "-":
	case "":
		req.Header.Set("Authorization", "Bearer "+lab.AdminToken)
	default:
		req.Header.Set("Authorization", "Bearer "+r.user)
	}
	if r.accept == "" {
		r.accept = "application/json"
	}
	req.Header.Set("Accept", r.accept)
	req.Header.Set("User-Agent", "diff")
	if r.contentType != "" {
		req.Header.Set("Content-Type", r.contentType)
	}
	resp, err := s.HTTP.Do(req)
	if errors.Is(err, io.EOF) {
		// What a server does whose handler panics.
		return answer{body: "the connection was closed without an answer"}, nil
	}
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, mostBody))
	if err != nil {
		return answer{}, err
	}
	a := answer{code: resp.StatusCode, contentType: resp.Header.Get("Content-Type"), warnings: slices.Clone(resp.Header.Values("Warning"))}
	sort.Strings(a.warnings)
	a.body = decode(a.contentType, data)
	return a, nil
}

func decode(contentType string, data []byte) any {
	if strings.Contains(contentType, "protobuf") || strings.Contains(contentType, "cbor") {
		return fmt.Sprintf("%d bytes at least of %s", min(len(data), 1), contentType)
	}
	var one any
	if json.Unmarshal(data, &one) == nil {
		return one
	}
	if strings.Contains(contentType, "yaml") {
		if yaml.Unmarshal(data, &one) == nil {
			return one
		}
	}
	var lines []any
	for line := range bytes.Lines(data) {
		var v any
		if json.Unmarshal(line, &v) != nil {
			return string(data)
		}
		lines = append(lines, v)
	}
	return lines
}

var (
	anyUID = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)
	anyAge = regexp.MustCompile(`^(\d+[smhd])+$|^<unknown>$`)
	// What objects in messages have of their own.
	anyTime     = regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z`)
	anyRevision = regexp.MustCompile(`(resourceVersion\\*":\\*"|resourceVersion:|current: )\d+`)
	// Addresses that were allocated, which the first of the range never is, and names that were generated from the cases' "x-".
	anyAddress   = regexp.MustCompile(`\b10\.96\.(\d{2,3}\.\d+|\d+\.\d{2,3}|[1-9]\.\d+)\b|\bfd00:10:96::[0-9a-f:]+\b`)
	anyGenerated = regexp.MustCompile(`\bx-[bcdfghjklmnpqrstvwxz2456789]{5}\b`)
	// Node ports that were allocated, in patches that are shown and in columns.
	anyNodePort    = regexp.MustCompile(`(nodePort(?:\W{1,4}|: {(?:TCP|UDP|SCTP) ))3[0-2]\d{3}\b`)
	anyPortShown   = regexp.MustCompile(`(\d:)3[0-2]\d{3}(/(TCP|UDP|SCTP))`)
	anyTokenVolume = regexp.MustCompile(`kube-api-access-[a-z0-9]{5}`)
	anyPort        = regexp.MustCompile(`\b192\.0\.2\.1:\d+`)
	// pointers are addresses in messages that print Go values.
	pointers = regexp.MustCompile(`0x[0-9a-f]{6,}`)
)

// normal is an answer without what no two servers agree on.
func (a answer) normal() map[string]any {
	out := map[string]any{"code": a.code, "type": a.contentType, "warnings": a.warnings, "body": scrub("", a.body)}
	m, ok := out["body"].(map[string]any)
	if !ok || m["kind"] != "Status" {
		return out
	}
	message, _ := m["message"].(string)
	d, _ := m["details"].(map[string]any)
	if list, ok := d["causes"].([]any); ok {
		causes := make([]string, 0, len(list))
		for _, c := range list {
			c, _ := c.(map[string]any)
			// What follows the first line shows Go values, ours and theirs.
			first, _, _ := strings.Cut(fmt.Sprint(c["message"]), "\n")
			causes = append(causes, fmt.Sprintf("%v %v: %v", c["reason"], c["field"], first))
		}
		sort.Strings(causes)
		d["causes"] = causes
		if len(causes) > 1 || strings.Contains(message, "\n") {
			// The message is the causes in the order of somebody's map.
			delete(m, "message")
		}
	}
	return out
}

// constant is what a value is replaced by whatever it is.
var constant = map[string]string{
	"uid": "uid", "controller-uid": "uid", "batch.kubernetes.io/controller-uid": "uid",
	"creationTimestamp": "time", "deletionTimestamp": "time", "lastTransitionTime": "time", "lastPhaseTransitionTime": "time", "time": "time",
	"resourceVersion": "revision", "continue": "token", "remainingItemCount": "some",
	"serverAddress": "address", "clusterIP": "allocated", "nodePort": "allocated", "healthCheckNodePort": "allocated", "token": "secret", "expirationTimestamp": "time",
}

// scrub replaces values that differ from run to run, wherever they are.
func scrub(key string, v any) any {
	switch x := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(x))
		if meta, ok := x["generateName"].(string); ok && x["name"] != nil {
			x["name"] = meta + "generated"
		}
		for k, e := range x {
			out[k] = scrub(k, e)
		}
		return out
	case []any:
		if key == "resourceRules" || key == "nonResourceRules" {
			// Those of several bindings come in the order of a map.
			x = slices.SortedFunc(slices.Values(x), func(a, b any) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
		}
		out := make([]any, len(x))
		for i, e := range x {
			if key == "clusterIPs" && e != "None" {
				e = "allocated"
			}
			out[i] = scrub(key, e)
		}
		if (key == "rows" || key == "items") && strings.Contains(fmt.Sprint(out...), "allocated") {
			// Addresses by their names, which are random.
			slices.SortStableFunc(out, func(a, b any) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
		}
		return out
	case nil:
		return nil
	}
	if c, ok := constant[key]; ok && v != "None" && v != "" {
		return c
	}
	s, ok := v.(string)
	if !ok {
		return v
	}
	switch {
	case strings.HasPrefix(s, "kube-api-access-"):
		return "kube-api-access"
	case key == "cells" && anyAge.MatchString(s):
		return "age"
	}
	s = anyRevision.ReplaceAllString(anyTime.ReplaceAllString(s, "time"), "${1}revision")
	s = anyPortShown.ReplaceAllString(anyNodePort.ReplaceAllString(s, "${1}allocated"), "${1}allocated${2}")
	s = anyPort.ReplaceAllString(s, "address")
	s = anyGenerated.ReplaceAllString(anyAddress.ReplaceAllString(s, "allocated"), "x-generated")
	s = anyTokenVolume.ReplaceAllString(s, "kube-api-access")
	return pointers.ReplaceAllString(anyUID.ReplaceAllString(s, "uid"), "pointer")
}
