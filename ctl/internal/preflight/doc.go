// Package preflight finds out, before anything is written, what would keep a machine from becoming a node, and says
// how to mend each.
//
// Data in: Facts, which Gather reads from the machine. Data out: Findings, from the pure Plan. It owns no goroutine.
package preflight
