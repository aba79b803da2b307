// Package image makes sure that a container's image is on the node: pull policy, credentials, back-off, and how many
// pulls run at once.
//
// Data in: the image name, policy and pull secrets. Data out: the image reference the runtime knows, or an Error whose
// Reason is what the container status shows. It owns no goroutine: the pod's worker waits for its pull.
package image
