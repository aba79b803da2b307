// Package volume makes a pod's volumes before its containers start and removes them after they ended.
//
// Data in: the pod and the objects its volumes refer to. Data out: paths below
// /var/lib/kubelet/pods/UID/volumes/kubernetes.io~KIND/NAME, laid out as upstream lays them out, so that either kubelet
// can clean up after the other. All state is on disk. It owns no goroutine: the pod's worker calls it.
package volume
