// Package engine is the scheduler's loop: it owns the snapshot and the queue, applies what informers tell, runs cycles, and
// hands decisions to the binder.
//
// Data in: deltas, posted from informers' and binders' goroutines. Data out: bindings, conditions, events, decisions,
// metrics. One goroutine, that of Run, touches the snapshot and the queue, so that neither needs a lock; API requests are
// made by goroutines of which there is a bounded number, and whose outcomes come back as deltas. Run waits for all of them.
package engine
