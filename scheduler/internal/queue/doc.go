// Package queue orders the pods that wait to be scheduled.
//
// Data in: pods, outcomes of cycles, events of the cluster, and the time, which is always an argument. Data out: the next
// pod to schedule. A pod is in one of these places: active (to be tried now, by priority and age), backoff (to be tried
// when its backoff has passed, or earlier when nothing else is to do), unschedulable (waits for an event that could help),
// gated (waits for its scheduling gates), in flight (a cycle or a binding is under way). The queue is not safe for
// concurrent use; the engine's goroutine owns it.
package queue
