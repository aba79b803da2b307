// Command openapi compares what upstream's kube-apiserver and ours publish of the API: /openapi/v2 and every document of /openapi/v3.
//
// Data in: the binaries of both. Data out: each difference, and with -facts the file of what the Go types do not tell of the models, from which ours is made.
package main
