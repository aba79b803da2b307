// Package bootstrap makes a machine a cluster's first node (Init), one more node (Join), or a machine without any
// (Reset), phase by phase as kubeadm does, under kubeadm's paths and names.
//
// Data in: a spec. Data out: files, a running kubelet, objects in the cluster, and lines of progress. It owns no
// goroutine beyond a call.
package bootstrap
