package static

import (
	"fmt"
	"strings"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// allowed says why an object may not be in a file: nothing there may depend on objects of the API.
func allowed(obj object, file string) error {
	switch o := obj.(type) {
	case *admissionregistrationv1.ValidatingWebhookConfiguration:
		for i := range o.Webhooks {
			if err := byURL(o.Webhooks[i].Name, o.Name, file, &o.Webhooks[i].ClientConfig); err != nil {
				return err
			}
		}
	case *admissionregistrationv1.MutatingWebhookConfiguration:
		for i := range o.Webhooks {
			if err := byURL(o.Webhooks[i].Name, o.Name, file, &o.Webhooks[i].ClientConfig); err != nil {
				return err
			}
		}
	case *admissionregistrationv1.ValidatingAdmissionPolicy:
		if o.Spec.ParamKind != nil {
			return fmt.Errorf("ValidatingAdmissionPolicy %q: spec.paramKind is not supported for static manifests", o.Name)
		}
	case *admissionregistrationv1.MutatingAdmissionPolicy:
		if o.Spec.ParamKind != nil {
			return fmt.Errorf("MutatingAdmissionPolicy %q: spec.paramKind is not supported for static manifests", o.Name)
		}
	case *admissionregistrationv1.ValidatingAdmissionPolicyBinding:
		return binding(o.Name, o.Spec.PolicyName, o.Spec.ParamRef != nil)
	case *admissionregistrationv1.MutatingAdmissionPolicyBinding:
		return binding(o.Name, o.Spec.PolicyName, o.Spec.ParamRef != nil)
	}
	return nil
}

func byURL(webhook, configuration, file string, c *admissionregistrationv1.WebhookClientConfig) error {
	switch {
	case c.Service != nil:
		return fmt.Errorf("webhook %q in %q (file %q): clientConfig.service is not supported for static manifests; use clientConfig.url instead", webhook, configuration, file)
	case c.URL == nil || *c.URL == "":
		return fmt.Errorf("webhook %q in %q (file %q): clientConfig.url is required for static manifests", webhook, configuration, file)
	}
	return nil
}

func binding(name, policy string, params bool) error {
	switch {
	case policy == "":
		return fmt.Errorf("binding %q must reference a policy (spec.policyName)", name)
	case !strings.HasSuffix(policy, Suffix):
		return fmt.Errorf("binding %q: spec.policyName %q must end with %q", name, policy, Suffix)
	case params:
		return fmt.Errorf("binding %q: spec.paramRef is not supported for static manifests", name)
	}
	return nil
}

// checkBindings says which binding is of a policy that there is not.
func checkBindings(objects map[schema.GroupVersionResource][]runtime.Object) error {
	policies := map[string]bool{}
	for _, list := range objects {
		for _, o := range list {
			policies[fmt.Sprintf("%T/%s", o, o.(object).GetName())] = true
		}
	}
	for _, list := range objects {
		for _, o := range list {
			var kind, policy string
			switch b := o.(type) {
			case *admissionregistrationv1.ValidatingAdmissionPolicyBinding:
				kind, policy = fmt.Sprintf("%T", (*admissionregistrationv1.ValidatingAdmissionPolicy)(nil)), b.Spec.PolicyName
			case *admissionregistrationv1.MutatingAdmissionPolicyBinding:
				kind, policy = fmt.Sprintf("%T", (*admissionregistrationv1.MutatingAdmissionPolicy)(nil)), b.Spec.PolicyName
			default:
				continue
			}
			if !policies[kind+"/"+policy] {
				return fmt.Errorf("binding %q references policy %q which does not exist in the manifest directory", o.(object).GetName(), policy)
			}
		}
	}
	return nil
}
