// Package status turns what is known about a pod into its API status, and is the only writer of pod status.
//
// Data in: the pod, its podstate snapshot, why starts failed, probe results. Data out: corev1.PodStatus, patched to the
// API server; deletion of pods that ended. generate_plan.go and conditions_plan.go are pure. Manager.Run owns one
// goroutine.
package status
