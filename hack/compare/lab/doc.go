// Package lab starts programs of upstream's and ours beside each other: API servers on an etcd of their own, and what
// connects to them.
//
// Data in: two folders of binaries. Data out: servers that are ready, with a client. Everything is on loopback and in one
// temporary folder; Close ends all processes and removes it.
package lab
