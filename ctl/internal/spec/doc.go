// Package spec is what a user asks of a cluster: the documents of kubeadm.k8s.io/v1beta4, re-declared here, with
// kubeadm's defaults and the flags of ctl on top.
//
// Data in: a configuration file and flags. Data out: a validated Cluster. It owns no goroutine.
//
// The format is https://kubernetes.io/docs/reference/config-api/kubeadm-config.v1beta4/.
package spec
