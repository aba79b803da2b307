// Package probe asks running containers whether they have started, live and are ready.
//
// Data in: pods from the workers and their newest statuses. Data out: results, which plan and status read, and wake-ups
// of the pod's worker when a result changes. Manager owns one goroutine per probe of a container; Remove and the
// context given to Sync end them.
package probe
