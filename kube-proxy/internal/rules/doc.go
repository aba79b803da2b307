// Package rules turns a snapshot of services into rulesets, for nftables and for iptables. It is pure.
//
// Data in: a track.Snapshot and a Config. Data out: the chains, sets and maps that are wanted (NFT, IPTables), and the
// difference between two rulesets, which is what a transaction holds. Each feature has a golden file in testdata, written
// by `go test ./internal/rules -rewrite`.
package rules
