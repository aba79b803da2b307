// Package policy is the admission plugins that evaluate policies in CEL:
// ValidatingAdmissionPolicy and MutatingAdmissionPolicy, KEP-3488 and
// KEP-3962.
//
// Data in: policies, bindings and parameters from the watch cache, compiled
// anew when they change and a policy is first about a request, and requests on
// their way through admission. Data out: changed objects, refusals and
// warnings. It owns no goroutine.
package policy
