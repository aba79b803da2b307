// Package rules turns a snapshot of services into rulesets, for nftables and for iptables. It is pure.
//
// Data in: a track.Snapshot and a Config. Data out: what differs from the rules of the snapshots before, which is what a
// transaction holds. For nftables a table is kept (NFT), to which a snapshot of the services that changed is enough; for
// iptables the whole is built from a snapshot of all (IPTables, Restore). Each feature has a golden file in testdata,
// written by `go test ./internal/rules -rewrite`.
package rules
