// Package serving is the secure port of a component: TLS with reloaded
// certificates, delegated authentication and authorization, health, metrics,
// the z-pages, and the gRPC services of DESIGN §4 on the same port.
//
// Data in: HTTP requests. Data out: answers of the component's handlers. The
// goroutines are net/http's, ended by Run.
package serving
