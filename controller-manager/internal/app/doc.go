// Package app wires the controller manager: options to controllers, and the order in which the parts start and stop.
//
// Data in: a validated Config. Data out: a running process. The controllers and their informers are made when the lead
// is won and end with it. Every goroutine belongs to a part that Run waits for.
package app
