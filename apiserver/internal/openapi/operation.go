package openapi

import (
	"reflect"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apischema "k8s.io/apimachinery/pkg/runtime/schema"

	"flagship/apiserver/internal/resource"
)

// operationOf is one method of a path.
type operationOf struct {
	verb, action string
	body, answer schema
}

func method(verb string) string {
	return map[string]string{
		"create": "post", "get": "get", "list": "get", "update": "put", "patch": "patch", "delete": "delete", "deletecollection": "delete",
	}[verb]
}

func action(verb string) string {
	if a := map[string]string{"create": "post", "update": "put"}[verb]; a != "" {
		return a
	}
	return verb
}

func bodyOf(verb string, s schema) schema {
	switch verb {
	case "create", "update":
		return s
	case "patch":
		return schema{"type": "object"}
	}
	return nil
}

// operations are those of a resource's collection and of one object.
func operations(k *resource.Kind, one, many schema) (collection, item []operationOf) {
	for _, verb := range k.ServedVerbs() {
		switch verb {
		case "create":
			collection = append(collection, operationOf{"post", "post", one, one})
		case "list":
			collection = append(collection, operationOf{"get", "list", nil, many})
		case "deletecollection":
			collection = append(collection, operationOf{"delete", "deletecollection", nil, nil})
		case "get":
			item = append(item, operationOf{"get", "get", nil, one})
		case "update":
			item = append(item, operationOf{"put", "put", one, one})
		case "patch":
			item = append(item, operationOf{"patch", "patch", schema{"type": "object"}, one})
		case "delete":
			item = append(item, operationOf{"delete", "delete", nil, nil})
		}
	}
	return collection, item
}

func parameter(g *generator, name, in, text, typ string, required bool) schema {
	p := schema{"name": name, "in": in, "description": text}
	if g.v3 {
		p["schema"] = schema{"type": typ, "uniqueItems": true}
	} else {
		p["type"], p["uniqueItems"] = typ, true
	}
	if required {
		p["required"] = true
	}
	return p
}

// parameters are those of a path.
func parameters(g *generator, namespaced, name bool) []any {
	var out []any
	if name {
		out = append(out, parameter(g, "name", "path", "name of the object", "string", true))
	}
	if namespaced {
		out = append(out, parameter(g, "namespace", "path", "object name and auth scope, such as for teams and projects", "string", true))
	}
	return append(out, parameter(g, "pretty", "query", "If 'true', then the output is pretty printed.", "string", false))
}

// queryOf are the query parameters of an action.
func queryOf(g *generator, action string) []any {
	q := func(name, text, typ string) any { return parameter(g, name, "query", text, typ, false) }
	switch action {
	case "list":
		return []any{
			q("allowWatchBookmarks", "allowWatchBookmarks requests watch events with type \"BOOKMARK\".", "boolean"),
			q("continue", "The continue option should be set when retrieving more results from the server.", "string"),
			q("fieldSelector", "A selector to restrict the list of returned objects by their fields.", "string"),
			q("labelSelector", "A selector to restrict the list of returned objects by their labels.", "string"),
			q("limit", "limit is a maximum number of responses to return for a list call.", "integer"),
			q("resourceVersion", "resourceVersion sets a constraint on what resource versions a request may be served from.", "string"),
			q("resourceVersionMatch", "resourceVersionMatch determines how resourceVersion is applied to list calls.", "string"),
			q("sendInitialEvents", "sendInitialEvents=true may be set together with watch=true.", "boolean"),
			q("timeoutSeconds", "Timeout for the list/watch call.", "integer"),
			q("watch", "Watch for changes to the described resources.", "boolean"),
		}
	case "post", "put", "patch":
		out := []any{
			q("dryRun", "When present, indicates that modifications should not be persisted.", "string"),
			q("fieldManager", "fieldManager is a name associated with the actor or entity that is making these changes.", "string"),
			q("fieldValidation", "fieldValidation instructs the server on how to handle objects in the request containing unknown or duplicate fields: Ignore, Warn or Strict.", "string"),
		}
		if action == "patch" {
			out = append(out, q("force", "Force is going to \"force\" Apply requests.", "boolean"))
		}
		return out
	case "delete", "deletecollection":
		return []any{
			q("dryRun", "When present, indicates that modifications should not be persisted.", "string"),
			q("gracePeriodSeconds", "The duration in seconds before the object should be deleted.", "integer"),
			q("propagationPolicy", "Whether and how garbage collection will be performed.", "string"),
		}
	}
	return nil
}

func patchMedia(g *generator) []string {
	if g.untyped {
		return []string{"application/json-patch+json", "application/merge-patch+json", "application/apply-patch+yaml"}
	}
	return []string{"application/json-patch+json", "application/merge-patch+json", "application/strategic-merge-patch+json", "application/apply-patch+yaml"}
}

func pathItem(g *generator, gvk apischema.GroupVersionKind, params []any, ops ...operationOf) schema {
	item := schema{}
	if len(params) > 0 {
		item["parameters"] = params
	}
	for _, op := range ops {
		item[op.verb] = operation(g, gvk, op)
	}
	return item
}

func operation(g *generator, gvk apischema.GroupVersionKind, op operationOf) schema {
	answer := op.answer
	if answer == nil {
		answer = g.ref(reflect.TypeFor[metav1.Status]())
	}
	out := schema{
		"x-kubernetes-action": op.action, "x-kubernetes-group-version-kind": kindOf(gvk),
		"responses": schema{"200": response(g, answer), "401": schema{"description": "Unauthorized"}},
	}
	query := queryOf(g, op.action)
	if op.body != nil {
		if g.v3 {
			media := []string{"*/*"}
			if op.action == "patch" {
				media = patchMedia(g)
			}
			content := schema{}
			for _, m := range media {
				content[m] = schema{"schema": op.body}
			}
			out["requestBody"] = schema{"content": content, "required": true}
		} else {
			query = append([]any{schema{"name": "body", "in": "body", "required": true, "schema": op.body}}, query...)
			if op.action == "patch" {
				out["consumes"] = patchMedia(g)
			}
		}
	}
	if len(query) > 0 {
		out["parameters"] = query
	}
	return out
}

func response(g *generator, s schema) schema {
	if !g.v3 {
		return schema{"description": "OK", "schema": s}
	}
	content := schema{}
	for _, m := range []string{"application/json", "application/yaml", "application/vnd.kubernetes.protobuf"} {
		content[m] = schema{"schema": s}
	}
	return schema{"description": "OK", "content": content}
}
