package e2e

import (
	"fmt"
	"strings"
	"time"
)

// The registry of the machine, which asks for a password.
const (
	registryAddress = "localhost:5000"
	privateImage    = registryAddress + "/private/busybox:1"
	registryUnit    = "private-registry"
)

// serveRegistry starts the registry in the machine, with an image in it.
func (c *cluster) serveRegistry() {
	c.t.Helper()
	out, err := c.m.run(c.ctx, "systemd-run", "--unit="+registryUnit, "/opt/src/tools/registry", "-listen", "127.0.0.1:5000", "-user", "puller", "-password", "pass-word",
		"private/busybox:1=/opt/src/images/localhost_busybox_1.tar")
	if err != nil {
		c.t.Fatalf("start the registry: %v\n%s", err, out)
	}
	if err := poll(c.ctx, 20*time.Second, func() error {
		out, err := c.m.run(c.ctx, "curl", "-fsS", "-u", "puller:pass-word", "http://127.0.0.1:5000/v2/private/busybox/tags/list")
		if err == nil && !strings.Contains(out, `"1"`) {
			err = fmt.Errorf("%s", out)
		}
		return err
	}); err != nil {
		c.t.Fatalf("the registry: %v", err)
	}
}

func (c *cluster) stopRegistry() {
	c.t.Helper()
	if out, err := c.m.run(c.ctx, "systemctl", "stop", registryUnit); err != nil {
		c.t.Fatalf("stop the registry: %v\n%s", err, out)
	}
}

// runPrivate makes a pod of the private image.
func (c *cluster) runPrivate(name, policy, more string) {
	c.t.Helper()
	c.apply(`{apiVersion: v1, kind: Pod, metadata: {name: ` + name + `}, spec: {` + more + ` terminationGracePeriodSeconds: 1,
  containers: [{name: c, image: "` + privateImage + `", imagePullPolicy: ` + policy + `, command: [sleep, "86400"]}]}}`)
}

// reason waits for why a pod's container does not start.
func (c *cluster) reason(pod, want string) {
	c.t.Helper()
	c.eventually(time.Minute, want, "get", "pod", pod, "-o", "jsonpath={.status.containerStatuses[0].state.waiting.reason}")
}

// forget removes the image from the node.
func (c *cluster) forget() {
	c.t.Helper()
	if out, err := c.m.run(c.ctx, "sh", "-c", "ctr -n k8s.io images ls -q | grep "+registryAddress+"/private | xargs -r ctr -n k8s.io images rm"); err != nil {
		c.t.Fatalf("remove the image: %v\n%s", err, out)
	}
}

// pullSecrets goes through a private registry: secrets of the pod and of its service account, and each pull policy.
func pullSecrets(c *cluster) {
	c.serveRegistry()
	const own = "imagePullSecrets: [{name: registry}],"

	c.runPrivate("never", "Never", own)
	c.reason("never", "ErrImageNeverPull")

	c.runPrivate("without", "IfNotPresent", "")
	c.eventually(time.Minute, "401 Unauthorized", "events", "--for", "pod/without")
	c.reason("without", "ImagePullBackOff")

	c.ctl("create", "secret", "docker-registry", "registry", "--docker-server="+registryAddress, "--docker-username=puller", "--docker-password=pass-word")
	c.runPrivate("with", "IfNotPresent", own)
	c.ctl("wait", "--for=condition=Ready", "pod/with", "--timeout=60s")
	if events := c.ctl("events", "--for", "pod/with"); !strings.Contains(events, `Successfully pulled image "`+privateImage+`" in `) {
		c.t.Errorf("events of a pull with a secret:\n%s", events)
	}
	// The image is there now: who has the secret may use it, others not.
	c.ctl("wait", "--for=condition=Ready", "pod/never", "--timeout=60s")
	c.runPrivate("thief", "Never", "")
	c.reason("thief", "ErrImageNeverPull")
	c.ctl("delete", "pod", "never", "without", "with", "thief", "--now")
	c.forget()

	c.ctl("create", "serviceaccount", "puller")
	c.ctl("patch", "serviceaccount", "puller", "-p", `{"imagePullSecrets":[{"name":"registry"}]}`)
	c.runPrivate("account", "Always", "serviceAccountName: puller,")
	c.ctl("wait", "--for=condition=Ready", "pod/account", "--timeout=60s")

	// Without a registry only a pod that need not ask it starts.
	c.stopRegistry()
	c.runPrivate("present", "IfNotPresent", own)
	c.ctl("wait", "--for=condition=Ready", "pod/present", "--timeout=60s")
	if events := c.ctl("events", "--for", "pod/present"); !strings.Contains(events, "already present on machine and can be accessed by the pod") {
		c.t.Errorf("events of a pod whose image is present:\n%s", events)
	}
	c.runPrivate("always", "Always", own)
	c.eventually(time.Minute, "connection refused", "events", "--for", "pod/always")
	c.reason("always", "ImagePullBackOff")
	c.ctl("delete", "pod", "account", "present", "always", "--now")
	c.ctl("delete", "secret/registry", "serviceaccount/puller")
}
