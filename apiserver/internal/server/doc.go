// Package server is the secure port of kube-apiserver: TLS, the ordered chain
// of filters, and the shutdown.
//
// Data in: HTTP requests. Data out: requests with a user and an Info in their
// context, handed to the paths' handlers. The chain, outermost first: recover,
// audit id, metrics, info, authentication, impersonation, time and number of requests,
// timeout, authorization. The goroutines are net/http's, ended by Run.
package server
