// Package cluster is what the bootstrapper writes to and reads from an API server: the stored configuration, addons,
// bootstrap tokens, and the state of nodes and pods.
//
// Data in: rendered manifests. Data out: objects, created or updated. Every call ends; it owns no goroutine.
package cluster
