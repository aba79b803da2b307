// Package crd decides about CustomResourceDefinitions: whether one is valid,
// what its status should be, and what to warn of.
//
// Data in: definitions. Data out: field errors, warnings, and statuses. It is
// pure but for the CEL environment, which is built when the first definition
// with rules is checked, and it owns no goroutine.
package crd
