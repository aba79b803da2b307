// Package introspect asks the running components what they are, what they were told, and why they did what they did,
// by the contracts of proto/ on their secure ports.
//
// Data in: an admin's kubeconfig and the nodes and pods of the cluster. Data out: answers, and errors per component.
// It owns a goroutine per component while it asks, and waits for them.
package introspect
