// Package host is this machine: its container runtime, the kubelet's service, the pod network's configuration, and
// what must be removed of them. It keeps a record of what it made, so that only that is removed.
//
// Data in: commands of the bootstrapper. Data out: files, processes and facts. Supervise owns the process it restarts;
// everything else is a call that ends.
package host
