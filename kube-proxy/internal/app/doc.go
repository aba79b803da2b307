// Package app wires the proxy: options to parts, parts to each other, and the order in which they start and stop.
//
// Data in: a validated Config. Data out: a running process. Every goroutine belongs to a part that Run waits for.
package app
