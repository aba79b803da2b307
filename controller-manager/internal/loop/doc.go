// Package loop is the one runner of every controller: informer events become deduplicated keys, a controller's Sync
// turns each key into a plan and applies it with preconditions, and what fails is tried again with back-off.
//
// Data in: informers shared by all controllers (Sources), made on first use. Data out: calls of Sync, one at a time per
// key. Run of a Controller owns its workers and watches and waits for them; Sources.Run owns the informers.
package loop
