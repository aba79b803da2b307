// Package podspec answers questions about a pod's declaration: QoS class, container visits, hashes, requests,
// static-pod identity, defaults. Data in: *corev1.Pod. Data out: values. It is pure and owns no goroutine.
package podspec
