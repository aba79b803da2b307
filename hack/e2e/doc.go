// Package e2e is the cluster test: it boots a machine of its own (systemd-nspawn,
// a real systemd, its own network), runs `ctl init` in it as a user would, and
// uses the cluster through ctl.
//
// The machine's root is made once by debootstrap and kept below
// /var/cache/flagship; a run writes to an overlay that is thrown away. A
// cluster of `make up` on the same machine is neither needed nor touched.
package e2e
