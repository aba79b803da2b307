// Package webhook is the admission plugins that ask webhooks: mutating ones,
// one after the other, and validating ones, all at once.
//
// Data in: webhook configurations from the watch cache, compiled anew when they
// change, and requests on their way through admission. Data out: changed
// objects and refusals. A request's goroutines end with it.
package webhook
