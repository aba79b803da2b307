// Package podset keeps the objects that an owner controls: it decides which are the owner's, adopts and releases them,
// and creates and deletes pods from a template with upstream's names and events.
//
// Data in: an owner, its selector and template, and the cache. Data out: patches, creations and deletions, each with the
// object's UID as precondition. Goroutines of a batch end before the call returns.
package podset
