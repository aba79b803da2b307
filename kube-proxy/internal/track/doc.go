// Package track keeps what the API says of Services and EndpointSlices and turns it into a snapshot per address family.
//
// Data in: Services, EndpointSlices and the node, from informers' goroutines. Data out: which services changed, and an
// immutable Snapshot of them or of all, whenever it is asked for. It owns no goroutine.
package track
