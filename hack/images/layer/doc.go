// Package layer makes the layers of container images from files of this machine.
//
// Data in: a list of entries. Data out: a tar archive, the same bytes for the same contents, so that an image changes
// only when what is in it does. It owns no goroutine.
package layer
