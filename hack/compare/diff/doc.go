// Command diff sends the same requests to upstream's kube-apiserver and to ours, each on an etcd of its own, and compares what
// they answer: code, reason, message, warnings, defaulted object, managed fields, table. Then each server opens the
// other's store, and every object is compared.
//
// Data in: both servers' binaries, the golden objects of k8s.io/api, the cases below testdata/, and mutations of those by a
// seed. Data out: a table of compared, equal and different answers by kind and by verb, and the differences. Everything is on
// loopback and in one temporary folder; main owns the processes.
package main
