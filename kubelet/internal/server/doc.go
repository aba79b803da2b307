// Package server is the kubelet's own API on port 10250: pods, logs, streaming sessions, statistics and metrics.
//
// Data in: HTTP requests, already authenticated and authorized by the kit's filters. Data out: answers read from the
// workers, the log files and the runtime. Streaming sessions are proxied to the runtime's streaming address. Its
// goroutines are net/http's.
package server
