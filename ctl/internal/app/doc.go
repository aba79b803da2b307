// Package app wires ctl: its own commands beside all of kubectl's, which come from k8s.io/kubectl as a library.
//
// Data in: arguments. Data out: the exit code. It owns no goroutine.
package app
