// Package app wires the kubelet: it is the only place that knows every package. Data in: the configuration. Data out: a
// running node agent. Run owns every goroutine of the process and stops them in the reverse order of their start.
package app
