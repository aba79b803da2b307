// Package podstate is what the kubelet knows about a pod in the container runtime: sandboxes and containers, newest
// first. Values are snapshots: whoever receives one may read it and must not change it.
package podstate
