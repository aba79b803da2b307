package resource

import (
	"fmt"

	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
)

func validateAPIService(a *apiregistrationv1.APIService) field.ErrorList {
	c := &checks{}
	p, s := root("spec"), &a.Spec
	if want := s.Version + "." + s.Group; a.Name != "" && a.Name != want {
		c.invalid(root("metadata", "name"), a.Name, fmt.Sprintf("must be `spec.version+\".\"+spec.group`: %q", want))
	}
	// The core group's name is empty.
	if s.Group != "" {
		c.subdomain(p.Child("group"), s.Group)
	} else if s.Version != "v1" {
		c.required(p.Child("group"), "only v1 may have an empty group and it better be legacy kube")
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
