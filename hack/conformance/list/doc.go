// Package list reads files of test names: one per line, without the tags in brackets at the name's end; a # begins a comment line.
//
// Data in: such a file, and what a run says of its tests. Data out: the names, an expression that matches them alone, and what is not among the run's tests.
// It owns no goroutine.
package list
