// Package endpoints runs the controllers that tell where a Service's pods are: EndpointSlices, Endpoints, and the mirror
// of hand-made Endpoints into EndpointSlices.
//
// Data in: services, pods, nodes' zones. Data out: slices and Endpoints. slice_plan.go and endpoints_plan.go decide
// which are created, changed and deleted so that few of them change.
package endpoints
