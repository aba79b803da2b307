// Package observe notices what happens to containers and wakes the workers of the pods concerned.
//
// Data in: the runtime's event stream, where it has one, and its container list. Data out: pod UIDs. Relist.Run owns
// one goroutine, and a second one for the stream.
package observe
