// Package conntrack removes the kernel's memory of UDP flows that lead to endpoints which are gone, and sets the limits of
// that memory.
//
// Data in: a snapshot and the endpoints that its ports reach. Data out: netlink requests and sysctls. It owns no goroutine.
package conntrack
