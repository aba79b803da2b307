// Package apply makes the kernel's rules those that package rules wants.
//
// Data in: a snapshot per family, of the services that changed. Data out: one transaction with the difference to what was
// committed last; after a failure or at the first time, one that replaces everything of ours, from a snapshot of all. The
// package owns no goroutine; a backend's methods are called by one goroutine at a time.
package apply
