// Package node runs the controllers of nodes: their health and the taints that follow from it, the eviction of pods from
// tainted nodes, their ranges of pod addresses, and the pods that nobody runs any more.
//
// Data in: nodes, their leases, pods. Data out: node conditions, taints and ranges; pods marked not ready or deleted.
// What the health of nodes was last is remembered in memory, by the one goroutine that looks at it.
package node
