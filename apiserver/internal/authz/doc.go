// Package authz decides whether a request is allowed.
//
// Data in: the Attributes of a request, and the RBAC objects, pods and volumes as their watch events tell them
// (RBAC.Set, Graph.SetPod, …). Data out: a Decision with its reason. A Union asks its authorizers in order; the first
// that has an opinion decides, and nobody having one means no. Nothing is listed or decoded while a request waits.
//
// The default roles and bindings are tables in bootstrap_*.go, which Reconcile brings into a Store.
//
// The package starts no goroutine; everything it exports may be used by many.
package authz
