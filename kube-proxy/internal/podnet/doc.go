// Package podnet joins the pod networks of a cluster's nodes (--pod-network): a route to each other node's range of pod
// addresses by way of that node's own address, and masquerading of what pods send out of the cluster. A cluster that has a
// network plugin for this leaves it off.
//
// Data in: nodes, by SetNode. Data out: routes of the kernel's main table, marked with the protocol number Protocol, and
// the nftables table Table. Run is the only goroutine. Routes and rules stay when it returns, as kube-proxy's do.
package podnet
