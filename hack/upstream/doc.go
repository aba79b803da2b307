// Package upstream is where upstream's own programs are built: the e2e suite, the programs of its images, and
// ginkgo, which runs the suite. It has a module of its own because k8s.io/kubernetes must never be a dependency
// of what Flagship ships.
//
// Data in: upstream's modules at the versions in go.mod. Data out: nothing to import; hack/conformance runs
// `go test -c` and `go build` in this folder.
package upstream
