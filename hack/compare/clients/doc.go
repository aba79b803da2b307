// Command clients runs real clients against upstream's kube-apiserver and ours: controller-runtime's own tests, with each server in turn as that of envtest, and sessions
// of kubectl and Helm, whose output is compared.
//
// Data in: the binaries of both, controller-runtime's source, helm, and the sessions in testdata. Data out: docs/clients.md.
package main
