// Package cluster is where the programs of an upstream cluster are built: the components, etcd, kubectl and kubeadm, for
// `make diff`, `make swap` and `make swap-in`. It has a module of its own beside hack/upstream's, because these need modules that the
// e2e suite does not, and the name of the suite's cache comes from that module.
//
// Data in: upstream's modules at the versions in go.mod. Data out: nothing to import; `make upstream` runs `go build` here.
package cluster
