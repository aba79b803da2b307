// Command conformance judges the running cluster by upstream's own conformance tests.
//
// Data in: the kubeconfig of a cluster on this machine, and the modules of hack/upstream. It builds upstream's e2e
// suite and the images that the tests use (once: they are kept in -cache), serves the images from a registry on
// loopback, which containerd asks instead of registry.k8s.io for as long as the command runs, runs the tests, and
// writes a report. Data out: logs, ginkgo's JSON and the report in -out; a run of all tests also writes -report.
//
// The goroutines of the registry and of the progress lines are run's, and end with it.
package main
