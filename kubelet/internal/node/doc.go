// Package node is the kubelet as a member of its cluster: the API access it has, its Node object, lease and certificates,
// and what pods it admits.
//
// Data in: the machine, the runtime's health, the API server's answers. Data out: the Node object and Lease; objects and
// tokens that pods refer to. *_plan.go files are pure. Each Run owns its goroutines.
package node
