// Package admission changes and judges objects before they are written.
//
// Data in: the Attributes of a request (typed objects of k8s.io/api, the user, the operation) and what the plugins
// read through Readers. Data out: the object as mutated, warnings and audit annotations on the Attributes, or an API
// Status. A Chain mutates with each plugin in order, and after the registry's own validation it validates with each.
//
// Plugins have upstream's names, order and messages. The package starts no goroutine; plugins may wait, for at most two
// seconds, for a service account or a namespace that is just being created.
package admission
