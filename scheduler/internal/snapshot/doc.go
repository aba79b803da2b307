// Package snapshot is the scheduler's view of the cluster: node state in columns, and match counts that are kept
// incrementally.
//
// Data in: nodes, pods, namespaces, volumes and selectors, one delta at a time, from the engine. Data out: the columns and
// counts that plugins read during a cycle. A Cluster has one owner, the engine's goroutine, which applies deltas only
// between cycles: within a cycle the view is immutable, but for edits that preemption and nominated pods make and undo.
// The package starts no goroutine and does no I/O.
package snapshot
