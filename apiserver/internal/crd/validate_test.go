package crd

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/validation"
	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// sound is a definition without mistakes, in two versions.
const sound = `{"metadata":{"name":"foos.example.com","uid":"u","resourceVersion":"1"},"spec":{"group":"example.com","scope":"Namespaced","names":{"plural":"foos","singular":"foo","kind":"Foo","listKind":"FooList","shortNames":["f"]},
"versions":[{"name":"v1","served":true,"storage":true,"subresources":{"status":{},"scale":{"specReplicasPath":".spec.n","statusReplicasPath":".status.n"}},
 "additionalPrinterColumns":[{"name":"N","type":"integer","jsonPath":".spec.n"}],"selectableFields":[{"jsonPath":".spec.s"}],
 "schema":{"openAPIV3Schema":{"type":"object","properties":{"spec":{"type":"object","x-kubernetes-validations":[{"rule":"self.n >= 0"}],"properties":{"n":{"type":"integer","default":1},"s":{"type":"string"},
  "l":{"type":"array","x-kubernetes-list-type":"map","x-kubernetes-list-map-keys":["k"],"items":{"type":"object","required":["k"],"properties":{"k":{"type":"string"}}}},
  "m":{"type":"object","additionalProperties":{"type":"string"}}}},"status":{"type":"object","properties":{"n":{"type":"integer"}}}}}}},
 {"name":"v2","served":true,"storage":false,"schema":{"openAPIV3Schema":{"type":"object"}}}]},"status":{"storedVersions":["v1"]}}`

const (
	s1   = "/spec/versions/0/schema/openAPIV3Schema"
	spc  = s1 + "/properties/spec"
	prop = spc + "/properties"
)

// patches are mistakes, each a JSON patch of what is sound.
func patches() map[string]string {
	set := func(path, value string) string { return `[{"op":"add","path":"` + path + `","value":` + value + `}]` }
	drop := func(path string) string { return `[{"op":"remove","path":"` + path + `"}]` }
	return map[string]string{
		"nothing":               `[]`,
		"group":                 set("/spec/group", `"example"`),
		"no group":              set("/spec/group", `""`),
		"bad group":             set("/spec/group", `"Ex.com"`),
		"scope":                 set("/spec/scope", `"World"`),
		"no scope":              set("/spec/scope", `""`),
		"names":                 set("/spec/names", `{"plural":"Foos","singular":"F_","kind":"1","listKind":"1","shortNames":["A"],"categories":["B"]}`),
		"no names":              set("/spec/names", `{}`),
		"two stored":            set("/spec/versions/1/storage", `true`),
		"none stored":           set("/spec/versions/0/storage", `false`),
		"same version":          set("/spec/versions/1/name", `"v1"`),
		"version name":          set("/spec/versions/1/name", `"V_2"`),
		"no schema":             drop("/spec/versions/1/schema"),
		"no schema served":      `[{"op":"remove","path":"/spec/versions/1/schema"},{"op":"add","path":"/spec/versions/0/schema","value":null}]`,
		"deprecation":           set("/spec/versions/1/deprecationWarning", `"x"`),
		"deprecation text":      `[{"op":"add","path":"/spec/versions/1/deprecated","value":true},{"op":"add","path":"/spec/versions/1/deprecationWarning","value":"a\u0001b"}]`,
		"preserve":              set("/spec/preserveUnknownFields", `true`),
		"type":                  set(prop+"/n/type", `"int"`),
		"null type":             set(prop+"/n/type", `"null"`),
		"no type":               drop(prop + "/n/type"),
		"root type":             set(s1+"/type", `"array"`),
		"root nullable":         set(s1+"/nullable", `true`),
		"root field":            set(s1+"/oneOf", `[{"required":["spec"]}]`),
		"ref":                   set(prop+"/n/$ref", `"#/x"`),
		"id":                    set(prop+"/n/id", `"x"`),
		"pattern properties":    set(spc+"/patternProperties", `{"a":{"type":"string"}}`),
		"additional items":      set(prop+"/l/additionalItems", `{"type":"string"}`),
		"definitions":           set(spc+"/definitions", `{"a":{"type":"string"}}`),
		"dependencies":          set(spc+"/dependencies", `{"a":["b"]}`),
		"unique items":          set(prop+"/l/uniqueItems", `true`),
		"both properties":       set(spc+"/additionalProperties", `{"type":"string"}`),
		"default type":          set(prop+"/n/default", `"x"`),
		"default unpruned":      set(prop+"/m2", `{"type":"object","default":{"x":1},"properties":{"y":{"type":"string"}}}`),
		"default in metadata":   set(s1+"/properties/metadata", `{"type":"object","properties":{"name":{"type":"string","default":"x"}}}`),
		"metadata":              set(s1+"/properties/metadata", `{"type":"object","properties":{"labels":{"type":"object"}}}`),
		"embedded":              set(prop+"/e", `{"type":"object","x-kubernetes-embedded-resource":true}`),
		"int or string":         set(prop+"/i", `{"type":"string","x-kubernetes-int-or-string":true}`),
		"preserve false":        set(prop+"/m/x-kubernetes-preserve-unknown-fields", `false`),
		"map type":              set(prop+"/n/x-kubernetes-map-type", `"x"`),
		"list type":             set(prop+"/l/x-kubernetes-list-type", `"bag"`),
		"list type of string":   set(prop+"/s/x-kubernetes-list-type", `"set"`),
		"map without keys":      drop(prop + "/l/x-kubernetes-list-map-keys"),
		"keys unknown":          set(prop+"/l/x-kubernetes-list-map-keys", `["x","x"]`),
		"keys optional":         drop(prop + "/l/items/required"),
		"keys nullable":         set(prop+"/l/items/properties/k/nullable", `true`),
		"items nullable":        set(prop+"/l/items/nullable", `true`),
		"set of objects":        set(prop+"/t", `{"type":"array","x-kubernetes-list-type":"set","items":{"type":"object","properties":{"a":{"type":"string"}}}}`),
		"keys without map":      set(prop+"/l2", `{"type":"array","x-kubernetes-list-map-keys":["k"],"items":{"type":"object"}}`),
		"items list":            set(prop+"/l2", `{"type":"array","items":[{"type":"string"}]}`),
		"rule compiles":         set(spc+"/x-kubernetes-validations/0/rule", `"self.x > 0"`),
		"rule type":             set(spc+"/x-kubernetes-validations/0/rule", `"self.n"`),
		"rule empty":            set(spc+"/x-kubernetes-validations/0/rule", `" "`),
		"rule lines":            set(spc+"/x-kubernetes-validations/0/rule", `"self.n >=\n 0"`),
		"message blank":         set(spc+"/x-kubernetes-validations/0/message", `" "`),
		"message lines":         set(spc+"/x-kubernetes-validations/0/message", `"a\nb"`),
		"message expression":    set(spc+"/x-kubernetes-validations/0/messageExpression", `"self.n"`),
		"reason":                set(spc+"/x-kubernetes-validations/0/reason", `"Because"`),
		"field path":            set(spc+"/x-kubernetes-validations/0/fieldPath", `".x"`),
		"old self optional":     set(spc+"/x-kubernetes-validations/0/optionalOldSelf", `true`),
		"old self in list":      set(prop+"/l2", `{"type":"array","items":{"type":"string","x-kubernetes-validations":[{"rule":"self == oldSelf"}]}}`),
		"rule cost":             set(prop+"/big", `{"type":"array","items":{"type":"array","items":{"type":"string","x-kubernetes-validations":[{"rule":"self.contains('x')"}]}}}`),
		"rule total":            set(prop+"/big", `{"type":"array","items":{"type":"string"},"x-kubernetes-validations":[{"rule":"self.all(x, self.all(y, self.all(z, x == y && y == z)))"}]}`),
		"scale paths":           set("/spec/versions/0/subresources/scale", `{"specReplicasPath":".x","statusReplicasPath":"y","labelSelectorPath":".z"}`),
		"scale empty":           set("/spec/versions/0/subresources/scale", `{}`),
		"column":                set("/spec/versions/0/additionalPrinterColumns/0", `{"name":"","type":"x","format":"y","jsonPath":"z"}`),
		"column empty":          set("/spec/versions/0/additionalPrinterColumns/0", `{}`),
		"selectable":            set("/spec/versions/0/selectableFields", `[{"jsonPath":".spec.m"},{"jsonPath":".spec.s"},{"jsonPath":".spec.s"},{"jsonPath":".metadata.name"},{"jsonPath":""},{"jsonPath":".spec.l[0]"}]`),
		"conversion":            set("/spec/conversion", `{"strategy":"Magic"}`),
		"conversion none":       set("/spec/conversion", `{"strategy":"None","webhook":{"conversionReviewVersions":["v1"]}}`),
		"conversion bare":       set("/spec/conversion", `{"strategy":"Webhook"}`),
		"conversion url":        set("/spec/conversion", `{"strategy":"Webhook","webhook":{"conversionReviewVersions":["v1","v1","B"],"clientConfig":{"url":"http://u:p@/x?q#f"}}}`),
		"conversion service":    set("/spec/conversion", `{"strategy":"Webhook","webhook":{"conversionReviewVersions":["v9"],"clientConfig":{"caBundle":"eA==","service":{"namespace":"","name":"","port":0,"path":"x//y"}}}}`),
		"conversion both":       set("/spec/conversion", `{"strategy":"Webhook","webhook":{"conversionReviewVersions":["v1"],"clientConfig":{"url":"https://x","service":{"namespace":"a","name":"b"}}}}`),
		"protected group":       `[{"op":"add","path":"/spec/group","value":"x.k8s.io"},{"op":"add","path":"/metadata/name","value":"foos.x.k8s.io"}]`,
		"approved":              `[{"op":"add","path":"/spec/group","value":"x.k8s.io"},{"op":"add","path":"/metadata/name","value":"foos.x.k8s.io"},{"op":"add","path":"/metadata/annotations","value":{"api-approved.kubernetes.io":"bogus"}}]`,
		"stored versions":       set("/status/storedVersions", `["v2","v0"]`),
		"no stored versions":    set("/status/storedVersions", `[]`),
		"accepted names":        set("/status/acceptedNames", `{"plural":"A","singular":"","kind":"B","listKind":"B"}`),
		"kind":                  set("/spec/names/kind", `"Bar"`),
		"plural":                set("/spec/names/plural", `"bars"`),
		"scope changes":         set("/spec/scope", `"Cluster"`),
		"name":                  set("/metadata/name", `"other.example.com"`),
		"format":                set(prop+"/s/format", `"nonsense"`),
		"shared schema":         `[{"op":"remove","path":"/spec/versions/1"},{"op":"add","path":"` + prop + `/n/type","value":"int"}]`,
		"structural in allOf":   set(spc+"/allOf", `[{"properties":{"n":{"type":"integer"}}}]`),
		"unknown in anyOf":      set(spc+"/anyOf", `[{"properties":{"zz":{"minimum":1}}}]`),
		"additional properties": set(prop+"/m/additionalProperties", `true`),
	}
}

func parse(t *testing.T, patch string) *apiextensionsv1.CustomResourceDefinition {
	t.Helper()
	p, err := jsonpatch.DecodePatch([]byte(patch))
	if err != nil {
		t.Fatal(err)
	}
	data, err := p.Apply([]byte(sound))
	if err != nil {
		t.Fatal(err)
	}
	d := &apiextensionsv1.CustomResourceDefinition{}
	if err := json.Unmarshal(data, d); err != nil {
		t.Fatal(err)
	}
	apiextensionsv1.SetDefaults_CustomResourceDefinition(d)
	apiextensionsv1.SetDefaults_CustomResourceDefinitionSpec(&d.Spec)
	if c := d.Spec.Conversion; c != nil && c.Webhook != nil && c.Webhook.ClientConfig != nil && c.Webhook.ClientConfig.Service != nil {
		apiextensionsv1.SetDefaults_ServiceReference(c.Webhook.ClientConfig.Service)
	}
	return d
}

func internalOf(t *testing.T, d *apiextensionsv1.CustomResourceDefinition) *apiextensions.CustomResourceDefinition {
	t.Helper()
	in, errs := toInternal(d)
	if errs != nil {
		t.Fatal(errs)
	}
	return in
}

// texts are the errors but those of the metadata, which the write path checks.
func texts(errs field.ErrorList) []string {
	var out []string
	for _, e := range errs {
		if !strings.HasPrefix(e.Field, "metadata.") || strings.HasPrefix(e.Field, "metadata.annotations") || strings.Contains(e.Detail, "spec.names.plural") {
			out = append(out, e.Error())
		}
	}
	slices.Sort(out)
	return out
}

// TestValidateAsUpstream holds every finding against upstream's own.
func TestValidateAsUpstream(t *testing.T) {
	for name, patch := range patches() {
		t.Run(name, func(t *testing.T) {
			d := parse(t, patch)
			if len(d.Spec.Versions[0].SelectableFields) > 0 && anyNotConvertible(t, d) {
				// Upstream panics over selectable fields without a schema that it
				// can read.
				d.Spec.Versions[0].SelectableFields = nil
			}
			want := texts(validation.ValidateCustomResourceDefinition(context.Background(), internalOf(t, d)))
			if diff := cmp.Diff(want, texts(Validate(d))); diff != "" {
				t.Errorf("create: -upstream +here:\n%s", diff)
			}
			for _, established := range []bool{false, true} {
				old := parse(t, `[]`)
				if established {
					old.Status.Conditions = []apiextensionsv1.CustomResourceDefinitionCondition{{Type: apiextensionsv1.Established, Status: apiextensionsv1.ConditionTrue}}
				}
				want = texts(validation.ValidateCustomResourceDefinitionUpdate(context.Background(), internalOf(t, d), internalOf(t, old)))
				if diff := cmp.Diff(want, texts(ValidateUpdate(d, old))); diff != "" {
					t.Errorf("update, established %t: -upstream +here:\n%s", established, diff)
				}
				// The mistake was stored already.
				want = texts(validation.ValidateCustomResourceDefinitionUpdate(context.Background(), internalOf(t, d), internalOf(t, d)))
				if diff := cmp.Diff(want, texts(ValidateUpdate(d, d))); diff != "" {
					t.Errorf("same: -upstream +here:\n%s", diff)
				}
			}
		})
	}
}

func anyNotConvertible(t *testing.T, d *apiextensionsv1.CustomResourceDefinition) bool {
	in := internalOf(t, d)
	return schemas(&in.Spec, func(p *props) bool {
		_, err := structuralschema.NewStructural(p)
		return err != nil
	})
}

func TestWarn(t *testing.T) {
	d := parse(t, `[{"op":"add","path":"`+prop+`/s/format","value":"nonsense"}]`)
	if diff := cmp.Diff([]string{`unrecognized format "nonsense"`}, Warn(d, nil)); diff != "" {
		t.Error(diff)
	}
	if w := Warn(d, d); len(w) != 0 {
		t.Errorf("what was there already: %v", w)
	}
}
