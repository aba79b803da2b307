// Package watchcache holds every stored object as the bytes it was written as,
// and serves reads and watches from memory (DESIGN §5).
//
// Data in: one stream of all changes in etcd, which Hub owns. Data out, per
// resource: an ordered copy-on-write tree of entries, and a bounded window of
// changes that watchers follow. Since one stream feeds all caches, they all
// stand at one revision, and a consistent read waits for that one.
//
// Hub.Run is the only goroutine; watchers are read from their readers'.
package watchcache
