package resource

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"flagship/apiserver/internal/crd"
)

// hook is what both kinds of webhooks have.
type hook struct {
	name                string
	client              admissionregistrationv1.WebhookClientConfig
	rules               []admissionregistrationv1.RuleWithOperations
	failure             *admissionregistrationv1.FailurePolicyType
	match               *admissionregistrationv1.MatchPolicyType
	effects             *admissionregistrationv1.SideEffectClass
	timeout             *int32
	namespaces, objects *metav1.LabelSelector
	versions            []string
	conditions          []admissionregistrationv1.MatchCondition
	reinvocation        *admissionregistrationv1.ReinvocationPolicyType
}

func validateMutatingWebhooks(w *admissionregistrationv1.MutatingWebhookConfiguration) field.ErrorList {
	list := make([]hook, len(w.Webhooks))
	for i, h := range w.Webhooks {
		list[i] = hook{h.Name, h.ClientConfig, h.Rules, h.FailurePolicy, h.MatchPolicy, h.SideEffects, h.TimeoutSeconds, h.NamespaceSelector, h.ObjectSelector, h.AdmissionReviewVersions, h.MatchConditions, h.ReinvocationPolicy}
	}
	return checkHooks(list)
}

func validateValidatingWebhooks(w *admissionregistrationv1.ValidatingWebhookConfiguration) field.ErrorList {
	list := make([]hook, len(w.Webhooks))
	for i, h := range w.Webhooks {
		list[i] = hook{h.Name, h.ClientConfig, h.Rules, h.FailurePolicy, h.MatchPolicy, h.SideEffects, h.TimeoutSeconds, h.NamespaceSelector, h.ObjectSelector, h.AdmissionReviewVersions, h.MatchConditions, nil}
	}
	return checkHooks(list)
}

func checkHooks(list []hook) field.ErrorList {
	c := &checks{}
	names := sets.Set[string]{}
	for i := range list {
		h, p := &list[i], root("webhooks").Index(i)
		c.hook(h, p)
		if h.name != "" && names.Has(h.name) {
			c.duplicate(p.Child("name"), h.name)
		}
		names.Insert(h.name)
	}
	return c.list
}

func (c *checks) hook(h *hook, p *field.Path) {
	const accepted = "v1, v1beta1"
	c.add(validation.IsFullyQualifiedName(p.Child("name"), h.name))
	for i := range h.rules {
		c.hookRule(&h.rules[i], p.Child("rules").Index(i))
	}
	if h.failure != nil {
		oneOf(c, p.Child("failurePolicy"), *h.failure, admissionregistrationv1.Ignore, admissionregistrationv1.Fail)
	}
	if h.match != nil {
		oneOf(c, p.Child("matchPolicy"), *h.match, admissionregistrationv1.Exact, admissionregistrationv1.Equivalent)
	}
	if h.effects == nil {
		c.required(p.Child("sideEffects"), "must specify one of None, NoneOnDryRun")
	} else {
		oneOf(c, p.Child("sideEffects"), *h.effects, admissionregistrationv1.SideEffectClassNone, admissionregistrationv1.SideEffectClassNoneOnDryRun)
	}
	if h.timeout != nil && (*h.timeout > 30 || *h.timeout < 1) {
		c.invalid(p.Child("timeoutSeconds"), *h.timeout, "the timeout value must be between 1 and 30 seconds")
	}
	c.selector(p.Child("namespaceSelector"), h.namespaces)
	c.selector(p.Child("objectSelector"), h.objects)
	if h.reinvocation != nil {
		oneOf(c, p.Child("reinvocationPolicy"), *h.reinvocation, admissionregistrationv1.NeverReinvocationPolicy, admissionregistrationv1.IfNeededReinvocationPolicy)
	}
	c.add(hookConditions(p, h.conditions))
	c.hookClient(&h.client, p.Child("clientConfig"))
	at := p.Child("admissionReviewVersions")
	if len(h.versions) == 0 {
		c.required(at, "must specify one of "+accepted)
		return
	}
	seen := sets.Set[string]{}
	for i, v := range h.versions {
		if seen.Has(v) {
			c.invalid(at.Index(i), v, "duplicate version")
			continue
		}
		seen.Insert(v)
		c.invalid(at.Index(i), v, validation.IsDNS1035Label(v)...)
	}
	if !seen.HasAny("v1", "v1beta1") {
		c.invalid(at, h.versions, "must include at least one of "+accepted)
	}
}

func (c *checks) hookClient(x *admissionregistrationv1.WebhookClientConfig, p *field.Path) {
	switch {
	case (x.URL == nil) == (x.Service == nil):
		c.required(p, "exactly one of url or service is required")
	case x.URL != nil:
		c.add(crd.HookURL(*x.URL, p.Child("url")))
	default:
		s := x.Service
		c.add(crd.HookService(s.Namespace, s.Name, s.Path, ptr.Deref(s.Port, 443), p.Child("service")))
	}
}

func (c *checks) hookRule(r *admissionregistrationv1.RuleWithOperations, p *field.Path) {
	alone := func(name string, list []string) {
		at := p.Child(name)
		if len(list) == 0 {
			c.required(at, "")
		}
		if len(list) > 1 && contains(list, "*") {
			c.invalid(at, list, "if '*' is present, must not specify other "+map[string]string{"apiGroups": "API groups", "apiVersions": "API versions"}[name])
		}
	}
	alone("apiGroups", r.APIGroups)
	alone("apiVersions", r.APIVersions)
	for i, v := range r.APIVersions {
		if v == "" {
			c.required(p.Child("apiVersions").Index(i), "")
		}
	}
	if len(r.Resources) == 0 {
		c.required(p.Child("resources"), "")
	}
	for i, x := range r.Resources {
		if x == "" {
			c.required(p.Child("resources").Index(i), "")
		}
	}
	if r.Scope != nil {
		oneOf(c, p.Child("scope"), *r.Scope, admissionregistrationv1.ClusterScope, admissionregistrationv1.NamespacedScope, admissionregistrationv1.AllScopes)
	}
	if len(r.Operations) == 0 {
		c.required(p.Child("operations"), "")
	}
	for i, o := range r.Operations {
		if o == admissionregistrationv1.OperationAll && len(r.Operations) > 1 {
			c.invalid(p.Child("operations"), r.Operations, "if '*' is present, must not specify other operations")
		}
		oneOf(c, p.Child("operations").Index(i), o, admissionregistrationv1.OperationAll, admissionregistrationv1.Create, admissionregistrationv1.Update, admissionregistrationv1.Delete, admissionregistrationv1.Connect)
	}
}

var keyUsages = sets.New(certificatesv1.UsageSigning, certificatesv1.UsageDigitalSignature, certificatesv1.UsageContentCommitment, certificatesv1.UsageKeyEncipherment,
	certificatesv1.UsageKeyAgreement, certificatesv1.UsageDataEncipherment, certificatesv1.UsageCertSign, certificatesv1.UsageCRLSign, certificatesv1.UsageEncipherOnly,
	certificatesv1.UsageDecipherOnly, certificatesv1.UsageAny, certificatesv1.UsageServerAuth, certificatesv1.UsageClientAuth, certificatesv1.UsageCodeSigning,
	certificatesv1.UsageEmailProtection, certificatesv1.UsageSMIME, certificatesv1.UsageIPsecEndSystem, certificatesv1.UsageIPsecTunnel, certificatesv1.UsageIPsecUser,
	certificatesv1.UsageTimestamping, certificatesv1.UsageOCSPSigning, certificatesv1.UsageMicrosoftSGC, certificatesv1.UsageNetscapeSGC)

func validateSigningRequest(r *certificatesv1.CertificateSigningRequest) field.ErrorList {
	const shortest = 600
	c := &checks{}
	p, s := root("spec"), &r.Spec
	if err := signedRequest(s.Request); err != nil {
		c.invalid(p.Child("request"), s.Request, err.Error())
	}
	if len(s.Usages) == 0 {
		c.required(p.Child("usages"), "")
	}
	seen := sets.Set[certificatesv1.KeyUsage]{}
	for i, u := range s.Usages {
		at := p.Child("usages").Index(i)
		if !keyUsages.Has(u) {
			c.list = append(c.list, field.NotSupported(at, u, sets.List(keyUsages)))
		}
		if seen.Has(u) {
			c.duplicate(at, u)
		}
		seen.Insert(u)
	}
	if s.SignerName == "kubernetes.io/legacy-unknown" {
		c.invalid(p.Child("signerName"), s.SignerName, "the legacy signerName is not allowed via this API version")
	} else {
		c.signerName(p.Child("signerName"), s.SignerName)
	}
	if s.ExpirationSeconds != nil && *s.ExpirationSeconds < shortest {
		c.invalid(p.Child("expirationSeconds"), *s.ExpirationSeconds, "may not specify a duration less than 600 seconds (10 minutes)")
	}
	c.requestConditions(r.Status.Conditions, root("status", "conditions"))
	return c.list
}

// signedRequest wants a PKCS #10 request with a valid signature.
func signedRequest(data []byte) error {
	block, _ := pem.Decode(data)
	if block == nil || block.Type != "CERTIFICATE REQUEST" {
		return errors.New("PEM block type must be CERTIFICATE REQUEST")
	}
	r, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return err
	}
	return r.CheckSignature()
}

func (c *checks) requestConditions(list []certificatesv1.CertificateSigningRequestCondition, p *field.Path) {
	seen := sets.Set[certificatesv1.RequestConditionType]{}
	for i, x := range list {
		at := p.Index(i)
		c.needed(at.Child("type"), string(x.Type))
		final := x.Type == certificatesv1.CertificateApproved || x.Type == certificatesv1.CertificateDenied || x.Type == certificatesv1.CertificateFailed
		switch {
		case x.Status == "":
			c.required(at.Child("status"), "")
		case final:
			oneOf(c, at.Child("status"), x.Status, "True")
		default:
			oneOf(c, at.Child("status"), x.Status, "True", "False", "Unknown")
		}
		if x.Type == certificatesv1.CertificateApproved && seen.Has(certificatesv1.CertificateDenied) || x.Type == certificatesv1.CertificateDenied && seen.Has(certificatesv1.CertificateApproved) {
			c.invalid(p, x.Type, "Approved and Denied conditions are mutually exclusive")
		}
		if seen.Has(x.Type) {
			c.duplicate(at.Child("type"), x.Type)
		}
		seen.Insert(x.Type)
	}
}

// checkRequestUpdate checks an update of a request by the way it came: approval
// may decide, status may issue.
func checkRequestUpdate(r, old *certificatesv1.CertificateSigningRequest, decides, issues bool) field.ErrorList {
	c := &checks{list: validateSigningRequest(r)}
	at := root("status", "conditions")
	of := func(r *certificatesv1.CertificateSigningRequest, t certificatesv1.RequestConditionType) []certificatesv1.CertificateSigningRequestCondition {
		var out []certificatesv1.CertificateSigningRequestCondition
		for _, x := range r.Status.Conditions {
			if x.Type == t {
				out = append(out, x)
			}
		}
		return out
	}
	for _, t := range []certificatesv1.RequestConditionType{certificatesv1.CertificateApproved, certificatesv1.CertificateDenied, certificatesv1.CertificateFailed} {
		was, is := of(old, t), of(r, t)
		switch {
		case len(is) < len(was):
			c.forbidden(at, fmt.Sprintf("updates may not remove a condition of type %q", t))
		case decides || t == certificatesv1.CertificateFailed:
		case len(is) > len(was):
			c.forbidden(at, fmt.Sprintf("updates may not add a condition of type %q", t))
		case !apiequality.Semantic.DeepEqual(was, is):
			c.forbidden(at, fmt.Sprintf("updates may not modify a condition of type %q\n", t))
		}
	}
	if string(r.Status.Certificate) != string(old.Status.Certificate) {
		if !issues {
			c.forbidden(root("status", "certificate"), "updates may not set certificate content")
		} else if len(old.Status.Certificate) > 0 {
			c.forbidden(root("status", "certificate"), "updates may not modify existing certificate content")
		}
	}
	return c.list
}
