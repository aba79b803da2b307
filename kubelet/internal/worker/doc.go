// Package worker drives each pod through its life: syncing, terminating, terminated.
//
// Data in: pods from source, wake-ups from observe and probe, evictions from resource. Data out: calls to cri, volume and
// cgroup code as plan decides, and statuses. Pool owns one goroutine per pod that is not finished, and one for
// housekeeping; they end with the context that Run and Update were given.
package worker
