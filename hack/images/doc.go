// Command images builds the container images of a Flagship cluster as tarballs, without a container daemon or registry.
//
// Data in: the binaries in -bin, and from this machine nft, iptables, conntrack, busybox and bash with the shared
// libraries they need. Data out: one tarball per image in -out, and the list of their names in images.txt. An image
// is written again only when the contents that go into it change. It owns no goroutine.
package main
