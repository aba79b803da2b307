// Package workload runs the controllers that keep pods running: ReplicaSet and ReplicationController, Deployment,
// DaemonSet, StatefulSet, and the disruption budgets that bound their voluntary loss.
//
// Data in: the workloads, their pods and revisions, nodes. Data out: pods and ReplicaSets created, scaled and deleted,
// and the workloads' status. Each <kind>_plan.go decides, without I/O or clock; <kind>.go applies.
package workload
