// Package plugin holds the scheduling plugins, one file each, under upstream's names and with upstream's reasons.
//
// Data in: the cluster snapshot and a pod. Data out: for a filter a check per node, for a scorer a rank per node. A plugin
// is immutable after New; what it computes for one pod lives in the closures that it returns, so that a cycle has no state
// of its own to keep or clone. Nothing here reads a clock, draws random numbers or does I/O.
package plugin
