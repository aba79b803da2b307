//go:build suite

package upstream

// The suite's own test file is compiled by `go test -c k8s.io/kubernetes/test/e2e`. Importing the package here keeps
// the modules that it and its tests need in go.sum.
import _ "k8s.io/kubernetes/test/e2e"
