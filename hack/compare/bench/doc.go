// Command bench compares upstream's binaries with ours in one run: the same load on both, in turns, the same disk, upstream's client
// limits raised to ours. It counts the processor time and the memory of the servers, which hold on a noisy machine; wall times stand
// beside them.
//
// Data in: two folders of binaries. Data out: a table of what each side took and the ratio, and docs/benchmarks.md. Everything is on
// loopback, in one temporary folder; what touches the kernel's rules runs in a network namespace of this program's own.
package main
