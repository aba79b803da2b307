// Package aggregate lets other API servers serve groups of the API: APIService
// objects, whether they are available, and the proxy to them.
//
// Data in: APIServices from the watch cache, requests for their groups, and
// what the servers say they serve. Data out: the servers' answers, the
// APIServices' conditions, and their part of discovery. Run owns its two
// goroutines; a proxied request's end with it.
package aggregate
