// Package rest answers API requests: it routes them, negotiates media types,
// reads and writes objects through the watch cache and the store, and serves
// the subresources.
//
// Data in: authenticated, authorized HTTP requests. Data out: objects, lists,
// watch streams and Status errors. A write goes bytes → decode once → default
// → admission → validate → encode once → one transaction → the same bytes
// back; a read goes cache → bytes (DESIGN §5). It starts no goroutine but for
// the copying of upgraded connections, which end with their request.
package rest
