// Package allocate keeps what the node has granted to each pod, and what of it has taken effect: a pod's declaration of
// resources may change while it runs, and the node takes up a change only when it has room.
//
// Data in: pods as declared, grants and their effects. Data out: pods with the resources they have. Both books are files
// of upstream's names and format, so that either kubelet finds the other's. resize_plan.go is pure. It owns no goroutine.
package allocate
