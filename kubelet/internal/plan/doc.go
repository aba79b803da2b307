// Package plan decides what has to happen to a pod's sandbox and containers.
//
// Data in: the pod's declaration, its podstate snapshot, probe results and the time. Data out: Actions, which the
// worker applies in the order of their fields. It is pure: no I/O, clock or randomness. It owns no goroutine.
package plan
