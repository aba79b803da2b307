// Package cri speaks CRI v1 to the container runtime: one file per RPC group.
//
// Data in: CRI configurations made by runconfig. Data out: podstate snapshots. It owns the gRPC connection and no
// goroutine of its own; every call is bounded by the runtime request timeout except pulls, event streams and stops
// (grace period added).
package cri
