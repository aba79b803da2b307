// Package difftest sends the same requests to upstream's kube-apiserver and to
// ours and compares what they answer: code, reason, causes, defaulted objects.
//
// Data in: the golden objects of k8s.io/api and the cases below testdata/.
// Data out: a table of compared, equal and different answers by kind. It does
// nothing unless FLAGSHIP_UPSTREAM_BIN names the folder with upstream's
// kube-apiserver and etcd; FLAGSHIP_BIN names our kube-apiserver.
package difftest
