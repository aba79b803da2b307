package resource

import (
	"fmt"
	"strings"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
)

func validateAPIService(a *apiregistrationv1.APIService) field.ErrorList {
	c := &checks{}
	p, s := root("spec"), &a.Spec
	if want := s.Version + "." + s.Group; a.Name != want {
		c.invalid(root("metadata", "name"), a.Name, fmt.Sprintf("must be `spec.version+\".\"+spec.group`: %q", want))
	}
	// The core group's name is empty.
	if s.Group != "" {
		c.subdomain(p.Child("group"), s.Group)
	}
	c.invalid(p.Child("version"), s.Version, validation.IsDNS1035Label(s.Version)...)
	if s.GroupPriorityMinimum <= 0 || s.GroupPriorityMinimum > 20000 {
		c.invalid(p.Child("groupPriorityMinimum"), s.GroupPriorityMinimum, "must be positive and less than 20000")
	}
	if s.VersionPriority <= 0 || s.VersionPriority > 1000 {
		c.invalid(p.Child("versionPriority"), s.VersionPriority, "must be positive and less than 1000")
	}
	if s.Service == nil {
		if len(s.CABundle) > 0 {
			c.invalid(p.Child("caBundle"), fmt.Sprintf("%d bytes", len(s.CABundle)), "local APIServices may not have a caBundle")
		}
		if s.InsecureSkipTLSVerify {
			c.invalid(p.Child("insecureSkipTLSVerify"), s.InsecureSkipTLSVerify, "local APIServices may not have insecureSkipTLSVerify")
		}
		return c.list
	}
	c.needed(p.Child("service", "namespace"), s.Service.Namespace)
	c.needed(p.Child("service", "name"), s.Service.Name)
	if s.InsecureSkipTLSVerify && len(s.CABundle) > 0 {
		c.invalid(p.Child("insecureSkipTLSVerify"), s.InsecureSkipTLSVerify, "may not be true if caBundle is present")
	}
	return c.list
}

// validateDefinition checks a custom resource definition's structure: names,
// versions, and that each served version has a schema.
func validateDefinition(d *apiextensionsv1.CustomResourceDefinition) field.ErrorList {
	c := &checks{}
	p, s := root("spec"), &d.Spec
	if want := s.Names.Plural + "." + s.Group; d.Name != want {
		c.invalid(root("metadata", "name"), d.Name, fmt.Sprintf(`must be spec.names.plural+"."+spec.group`))
	}
	if s.Group == "" {
		c.required(p.Child("group"), "")
	} else if msgs := validation.IsDNS1123Subdomain(s.Group); len(msgs) > 0 {
		c.invalid(p.Child("group"), s.Group, strings.Join(msgs, ","))
	} else if len(strings.Split(s.Group, ".")) < 2 {
		c.invalid(p.Child("group"), s.Group, "should be a domain with at least one dot")
	}
	if s.Scope == "" {
		c.required(p.Child("scope"), "")
	} else {
		oneOfListed(c, p.Child("scope"), s.Scope, apiextensionsv1.ClusterScoped, apiextensionsv1.NamespaceScoped)
	}
	stored, names := 0, sets.Set[string]{}
	for i, v := range s.Versions {
		at := p.Child("versions").Index(i)
		if v.Storage {
			stored++
		}
		if names.Has(v.Name) {
			c.invalid(at.Child("name"), v.Name, "must be unique")
		}
		names.Insert(v.Name)
		if msgs := validation.IsDNS1035Label(v.Name); len(msgs) > 0 {
			c.invalid(at.Child("name"), v.Name, strings.Join(msgs, ","))
		}
		if v.Schema == nil || v.Schema.OpenAPIV3Schema == nil {
			c.required(at.Child("schema", "openAPIV3Schema"), "schemas are required")
		} else if t := v.Schema.OpenAPIV3Schema.Type; t != "object" && !(v.Schema.OpenAPIV3Schema.XPreserveUnknownFields != nil && t == "") {
			if t == "" {
				c.required(at.Child("schema", "openAPIV3Schema", "type"), "must not be empty at the root")
			} else {
				c.invalid(at.Child("schema", "openAPIV3Schema", "type"), t, "must be object at the root")
			}
		}
	}
	if stored != 1 {
		c.invalid(p.Child("versions"), shown(s.Versions), "must have exactly one version marked as storage version")
	}
	c.definitionNames(&s.Names, p.Child("names"))
	return c.list
}

func (c *checks) definitionNames(n *apiextensionsv1.CustomResourceDefinitionNames, p *field.Path) {
	label := func(name, v string, required bool) {
		at := p.Child(name)
		if v == "" {
			if required {
				c.required(at, "")
			}
			return
		}
		if msgs := validation.IsDNS1035Label(strings.ToLower(v)); len(msgs) > 0 {
			c.invalid(at, v, strings.Join(msgs, ","))
		}
	}
	label("plural", n.Plural, true)
	label("singular", n.Singular, true)
	label("kind", n.Kind, true)
	label("listKind", n.ListKind, true)
	for i, s := range n.ShortNames {
		if msgs := validation.IsDNS1035Label(s); len(msgs) > 0 {
			c.invalid(p.Child("shortNames").Index(i), s, strings.Join(msgs, ","))
		}
	}
	if n.Kind != "" && n.Kind == n.ListKind {
		c.invalid(p.Child("listKind"), n.ListKind, "kind and listKind may not be the same")
	}
}
