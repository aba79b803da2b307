// Package resource is the node's means: cgroups, what the machine has, eviction, image collection, log rotation.
//
// Data in: pods, /proc, /sys/fs/cgroup, the runtime's statistics. Data out: cgroup trees below kubepods, usage figures,
// evictions. *_plan.go files are pure. Each Run owns one goroutine.
package resource
