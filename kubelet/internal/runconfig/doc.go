// Package runconfig turns a pod's declaration into CRI sandbox and container configurations.
//
// Data in: the pod, its sandbox's addresses, mounted volume paths, the objects that the environment refers to. Data
// out: *runtimeapi.PodSandboxConfig and *runtimeapi.ContainerConfig. Environment, security, resource and DNS rules are
// pure functions; Builder adds the files a container needs (hosts, termination log). It owns no goroutine.
package runconfig
