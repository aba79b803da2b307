// Package manifests is what the bootstrapper lays down on a machine and in a new cluster, as templates and files
// embedded in ctl: static pods, systemd units, the runtime's and the network's configuration, addons, and the objects
// by which nodes join.
//
// Data in: Values. Data out: rendered text. It owns no goroutine.
package manifests
