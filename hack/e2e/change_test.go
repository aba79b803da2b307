package e2e

import (
	"strings"
	"time"
)

// runningPod changes what a running pod uses: a config map reaches its volume, and new resources its cgroup, without a
// restart.
func runningPod(c *cluster) {
	c.apply(`
apiVersion: v1
kind: ConfigMap
metadata: {name: changing}
data: {key: before}
---
apiVersion: v1
kind: Pod
metadata: {name: changing}
spec:
  terminationGracePeriodSeconds: 1
  volumes: [{name: config, configMap: {name: changing}}]
  containers:
  - name: c
    image: ` + image + `
    command: [sleep, "86400"]
    resources: {requests: {cpu: 50m, memory: 16Mi}, limits: {cpu: 100m, memory: 32Mi}}
    volumeMounts: [{name: config, mountPath: /config}]
`)
	c.ctl("wait", "--for=condition=Ready", "pod/changing", "--timeout=60s")
	if out := c.in("changing", "cat", "/config/key"); out != "before" {
		c.t.Errorf("config: %q", out)
	}
	c.ctl("patch", "configmap", "changing", "--type=merge", "-p", `{"data":{"key":"after"}}`)
	c.eventually(time.Minute, "after", "exec", "changing", "--", "cat", "/config/key")

	c.ctl("patch", "pod", "changing", "--subresource=resize", "-p", `{"spec":{"containers":[{"name":"c","resources":{"requests":{"cpu":"60m","memory":"24Mi"},"limits":{"cpu":"200m","memory":"48Mi"}}}]}}`)
	c.eventually(time.Minute, `{"cpu":"200m","memory":"48Mi"} 0`, "get", "pod", "changing", "-o", "jsonpath={.status.containerStatuses[0].resources.limits} {.status.containerStatuses[0].restartCount}")
	// The limit in bytes, where cgroups are v1 or v2.
	c.eventually(20*time.Second, "50331648", "exec", "changing", "--", "sh", "-c", "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null; true")

	// What the node could never give is refused at once, and what others have of it has to wait.
	if out, err := c.try("patch", "pod", "changing", "--subresource=resize", "-p", `{"spec":{"containers":[{"name":"c","resources":{"requests":{"cpu":"900"},"limits":{"cpu":"900"}}}]}}`); err == nil || !strings.Contains(out, "node didn't have enough allocatable resources: cpu") {
		c.t.Errorf("more than the node has: %v\n%s", err, out)
	}
	cores := c.ctl("get", "nodes", "-o", "jsonpath={.items[0].status.allocatable.cpu}")
	c.ctl("patch", "pod", "changing", "--subresource=resize", "-p", `{"spec":{"containers":[{"name":"c","resources":{"requests":{"cpu":"`+cores+`"},"limits":{"cpu":"`+cores+`"}}}]}}`)
	c.eventually(20*time.Second, "Deferred", "get", "pod", "changing", "-o", `jsonpath={.status.conditions[?(@.type=="PodResizePending")].reason}`)
	c.ctl("delete", "pod/changing", "configmap/changing", "--now")
}
