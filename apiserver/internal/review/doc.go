// Package review asks servers outside the cluster whether a token or a request is good: the webhooks of TokenReviews
// and SubjectAccessReviews.
//
// Data in: a kubeconfig that names the server, and a token or a request's attributes. Data out: an identity or a
// decision, or an error. Tokens is one of authn's authenticators, Access one of authz's authorizers. Answers of Access
// are kept for as long as its configuration says; those of Tokens are not (authn.Cache does that).
//
// The package starts no goroutine; everything it exports may be used by many.
package review
