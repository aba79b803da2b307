// Package audit tells who asked for what and how it was answered: a policy says
// how much of each request is told, and the sinks are a file and a webhook.
//
// Data in: requests and their answers, from the server's filters and from the
// handlers, which find the request's Event in its context. Data out: events of
// audit.k8s.io/v1. It runs one goroutine for each sink that gathers events
// before it sends them; all queues are bounded.
package audit
