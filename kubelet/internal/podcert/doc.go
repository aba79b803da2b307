// Package podcert gets the certificates that projected volumes show (the podCertificate source, KEP-4317).
//
// Data in: pods, and the PodCertificateRequests of this node as the API server shows them. Data out: a
// PodCertificateRequest per source and per refresh, events about the pods, and the key and chain that the volume writes.
// Keys are in memory and in the pods' volumes only, so that a restarted kubelet asks anew for every source.
//
// source_plan.go decides what a source needs next, without clock or I/O; Issuer carries that out in the goroutines of its
// Run. Nothing is watched before the first pod that shows a certificate.
package podcert
