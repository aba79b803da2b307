// Package sampleapiserver is where the API server is built that upstream's aggregation test installs. It is of an older
// release than the suite, and its dependencies fit no other module's.
//
// Data in: upstream's module at the version in go.mod. Data out: nothing to import; hack/conformance runs `go build` here.
package sampleapiserver
