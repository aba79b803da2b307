// Package health answers whether the proxy works, for kubelets' probes and for load balancers.
//
// Data in: when changes were queued and when they were applied; how many local endpoints services have. Data out: HTTP, on
// the health address and on the health check node ports of services. Run owns the listeners and waits for them.
package health
