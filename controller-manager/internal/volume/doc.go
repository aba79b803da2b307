// Package volume runs the controllers of persistent volumes: the binding of claims to volumes, and the protection of
// claims and volumes that are in use.
//
// Data in: claims, volumes, storage classes, pods. Data out: bindings, finalizers, phases. binder_plan.go decides which
// volume a claim gets.
package volume
