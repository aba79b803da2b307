package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// cluster is a cluster on a test machine, used through ctl.
type cluster struct {
	t   *testing.T
	ctx context.Context
	m   *machine
}

// ctl runs a ctl command that must succeed.
func (c *cluster) ctl(args ...string) string {
	c.t.Helper()
	out, err := c.try(args...)
	if err != nil {
		c.t.Fatalf("ctl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(out)
}

func (c *cluster) try(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(c.ctx, 2*time.Minute)
	defer cancel()
	return c.m.run(ctx, append([]string{"/opt/src/ctl"}, args...)...)
}

// apply creates objects from YAML.
func (c *cluster) apply(yaml string) {
	c.t.Helper()
	cmd := c.m.command(c.ctx, "/opt/src/ctl", "apply", "-f", "-")
	cmd.Stdin = strings.NewReader(yaml)
	if out, err := cmd.output(); err != nil {
		c.t.Fatalf("ctl apply: %v\n%s", err, out)
	}
}

// eventually waits until a command's output contains a text.
func (c *cluster) eventually(limit time.Duration, want string, args ...string) string {
	c.t.Helper()
	var last string
	err := poll(c.ctx, limit, func() error {
		out, err := c.try(args...)
		last = out
		if err != nil {
			return err
		}
		if !strings.Contains(out, want) {
			return fmt.Errorf("no %q in it", want)
		}
		return nil
	})
	if err != nil {
		c.t.Fatalf("ctl %s: %v\n%s", strings.Join(args, " "), err, last)
	}
	return last
}

// in runs a command in a pod.
func (c *cluster) in(pod string, args ...string) string {
	c.t.Helper()
	return c.ctl(append([]string{"exec", pod, "--"}, args...)...)
}

const image = "localhost/busybox:1"

// scenarios are in the order in which they build on each other.
var scenarios = []struct {
	name string
	run  func(*cluster)
}{
	{"control plane", controlPlane},
	{"a pod", onePod},
	{"a deployment behind a service", deployment},
	{"proxy modes", proxyModes},
	{"two containers", twoContainers},
	{"a running pod changes", runningPod},
	{"restart and replacement", restarts},
	{"static pods", staticPods},
	{"an image that is not there", wrongImage},
	{"a private registry", pullSecrets},
	{"a pod that fits nowhere", unschedulable},
	{"introspection", introspection},
	{"bad input", badInput},
	{"the tour", tour},
	{"the kubelet is killed", kubeletKilled},
}

func TestCluster(t *testing.T) {
	if os.Getuid() != 0 {
		t.Fatal("the cluster test boots a machine: run it as root (make e2e)")
	}
	binaries, err := filepath.Abs("../../bin")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 25*time.Minute)
	defer cancel()
	m := bootMachine(ctx, t, machineName, binaries)
	c := &cluster{t: t, ctx: ctx, m: m}
	c.bringUp()
	for _, scenario := range scenarios {
		ok := t.Run(scenario.name, func(t *testing.T) {
			begin := time.Now()
			scenario.run(&cluster{t: t, ctx: ctx, m: m})
			t.Logf("%s: %s", scenario.name, time.Since(begin).Truncate(time.Millisecond))
		})
		if !ok {
			c.show()
			if scenario.name == "control plane" {
				t.Fatal("there is no cluster to go on with")
			}
		}
	}
	c.reset()
}

// bringUp runs ctl init as a user would.
func (c *cluster) bringUp() {
	c.t.Helper()
	begin := time.Now()
	out, err := c.try("init", "--schedulable", "--skip-token-print")
	if err != nil {
		c.show()
		c.t.Fatalf("ctl init: %v\n%s", err, out)
	}
	c.t.Logf("ctl init took %s:\n%s", time.Since(begin).Truncate(time.Second), out)
}

// show tells what the cluster looks like after a failure.
func (c *cluster) show() {
	for _, args := range [][]string{{"get", "nodes,pods", "-A", "-o", "wide"}, {"get", "events", "-A", "--sort-by=.metadata.creationTimestamp"}} {
		out, err := c.try(args...)
		c.t.Logf("ctl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	out, err := c.m.run(c.ctx, "sh", "-c", "journalctl -u kubelet --no-pager | tail -40; tail -n 15 /var/log/pods/kube-system_kube-*/*/*.log")
	c.t.Logf("kubelet's and components' logs: %v\n%s", err, out)
}

func controlPlane(c *cluster) {
	c.eventually(time.Minute, " Ready ", "get", "nodes", "--no-headers")
	c.ctl("rollout", "status", "-n", "kube-system", "daemonset/kube-proxy", "--timeout=90s")
	c.ctl("rollout", "status", "-n", "kube-system", "deployment/coredns", "--timeout=90s")
	pods := c.ctl("get", "pods", "-n", "kube-system", "--no-headers")
	for _, name := range []string{"kube-apiserver-", "kube-controller-manager-", "kube-scheduler-", "kube-proxy-", "coredns-"} {
		if !strings.Contains(pods, name) {
			c.t.Errorf("no %s* in kube-system:\n%s", name, pods)
		}
	}
	if out, err := c.m.run(c.ctx, "systemctl", "is-active", "kubelet"); err != nil || strings.TrimSpace(out) != "active" {
		c.t.Errorf("the kubelet's unit: %q, %v", out, err)
	}
}

func onePod(c *cluster) {
	c.ctl("run", "one", "--image="+image, "--", "sh", "-c", "echo hello; while true; do date; sleep 1; done")
	c.ctl("wait", "--for=condition=Ready", "pod/one", "--timeout=60s")
	// Events are sent beside the work that they tell of.
	for _, reason := range []string{"Scheduled", "Started"} {
		c.eventually(10*time.Second, reason, "events", "--for", "pod/one")
	}
	c.eventually(20*time.Second, "hello", "logs", "one")
	if out := c.in("one", "sh", "-c", "echo in; exit 0"); out != "in" {
		c.t.Errorf("exec: %q", out)
	}
	if out, err := c.try("exec", "one", "--", "sh", "-c", "exit 7"); err == nil || !strings.Contains(out, "exit code 7") {
		c.t.Errorf("exec's exit code: %v\n%s", err, out)
	}
	follow, cancel := context.WithTimeout(c.ctx, 4*time.Second)
	defer cancel()
	out, _ := c.m.run(follow, "/opt/src/ctl", "logs", "-f", "one", "--tail=1")
	if strings.Count(out, "\n") < 2 {
		c.t.Errorf("logs -f:\n%s", out)
	}
	c.ctl("delete", "pod", "one", "--grace-period=1")
	if out, err := c.try("get", "pod", "one"); err == nil || !strings.Contains(out, "NotFound") {
		c.t.Errorf("deleted pod: %v %s", err, out)
	}
}

func deployment(c *cluster) {
	c.apply(`
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: web
        image: ` + image + `
        env: [{name: POD, valueFrom: {fieldRef: {fieldPath: metadata.name}}}, {name: REV, value: "1"}]
        command: [sh, -c, "mkdir /w && echo $POD rev $REV > /w/index.html && exec httpd -f -p 8080 -h /w"]
        readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: NodePort
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080, nodePort: 30080}]
---
apiVersion: v1
kind: Pod
metadata: {name: client}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{name: client, image: ` + image + `, command: [sleep, "86400"]}]
`)
	c.ctl("rollout", "status", "deployment/web", "--timeout=90s")
	c.ctl("wait", "--for=condition=Ready", "pod/client", "--timeout=60s")
	ip := c.ctl("get", "service", "web", "-o", "jsonpath={.spec.clusterIP}")
	// busybox's static wget cannot resolve names: the name is looked up first.
	for what, args := range map[string][]string{
		"cluster IP": {"wget", "-qO-", "-T", "5", "http://" + ip},
		"node port":  {"wget", "-qO-", "-T", "5", "http://" + machineAddress + ":30080"},
	} {
		c.eventually(30*time.Second, "rev 1", append([]string{"exec", "client", "--"}, args...)...)
		_ = what
	}
	c.eventually(30*time.Second, ip, "exec", "client", "--", "nslookup", "web.default.svc.cluster.local")
	if out, err := c.m.run(c.ctx, "curl", "-s", "-m", "5", "http://"+machineAddress+":30080"); err != nil || !strings.Contains(out, "rev 1") {
		c.t.Errorf("node port from the node: %q, %v", out, err)
	}
	c.ctl("scale", "deployment/web", "--replicas=5")
	c.ctl("rollout", "status", "deployment/web", "--timeout=60s")
	c.ctl("scale", "deployment/web", "--replicas=2")
	c.ctl("rollout", "status", "deployment/web", "--timeout=60s")
	c.ctl("set", "env", "deployment/web", "REV=2")
	c.ctl("rollout", "status", "deployment/web", "--timeout=90s")
	c.eventually(30*time.Second, "rev 2", "exec", "client", "--", "wget", "-qO-", "-T", "5", "http://"+ip)
	if h := c.ctl("rollout", "history", "deployment/web"); !strings.Contains(h, "\n2 ") {
		c.t.Errorf("history:\n%s", h)
	}
	c.ctl("rollout", "undo", "deployment/web")
	c.ctl("rollout", "status", "deployment/web", "--timeout=90s")
	c.eventually(30*time.Second, "rev 1", "exec", "client", "--", "wget", "-qO-", "-T", "5", "http://"+ip)
	c.portForward()
	c.copy()
}

func (c *cluster) portForward() {
	c.t.Helper()
	out, err := c.m.run(c.ctx, "sh", "-c", `/opt/src/ctl port-forward service/web 18080:80 >/tmp/pf.log 2>&1 & pf=$!
for i in $(seq 40); do curl -s -m 2 http://127.0.0.1:18080 && break; sleep 0.25; done; kill $pf`)
	if err != nil || !strings.Contains(out, "rev 1") {
		c.t.Errorf("port-forward: %q, %v", out, err)
	}
}

func (c *cluster) copy() {
	c.t.Helper()
	if out, err := c.m.run(c.ctx, "sh", "-c", "echo copied > /tmp/copy.txt && /opt/src/ctl cp /tmp/copy.txt client:/tmp/copy.txt"); err != nil {
		c.t.Errorf("cp: %v\n%s", err, out)
		return
	}
	if out := c.in("client", "cat", "/tmp/copy.txt"); out != "copied" {
		c.t.Errorf("copied file: %q", out)
	}
}

// proxyModes sends traffic through each backend of kube-proxy: ClusterIP, node
// port, headless, session affinity.
func proxyModes(c *cluster) {
	c.apply(`
apiVersion: v1
kind: Service
metadata: {name: sticky}
spec:
  type: NodePort
  sessionAffinity: ClientIP
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080, nodePort: 30081}]
---
apiVersion: v1
kind: Service
metadata: {name: headless}
spec: {clusterIP: None, selector: {app: web}, ports: [{port: 8080}]}
`)
	sticky := c.ctl("get", "service", "sticky", "-o", "jsonpath={.spec.clusterIP}")
	plain := c.ctl("get", "service", "web", "-o", "jsonpath={.spec.clusterIP}")
	c.headless()
	for _, mode := range []string{"iptables", "nftables"} {
		script := `/opt/src/ctl get configmap -n kube-system kube-proxy -o yaml | sed -E "/^    mode: /d; s/^(  config.conf: \\|)$/\1\n    mode: ` + mode + `/" | /opt/src/ctl replace -f -`
		if out, err := c.m.run(c.ctx, "sh", "-c", script); err != nil {
			c.t.Fatalf("set the mode: %v\n%s", err, out)
		}
		c.ctl("rollout", "restart", "-n", "kube-system", "daemonset/kube-proxy")
		c.ctl("rollout", "status", "-n", "kube-system", "daemonset/kube-proxy", "--timeout=60s")
		if err := poll(c.ctx, 20*time.Second, func() error {
			out, err := c.m.run(c.ctx, "curl", "-s", "-m", "5", "http://127.0.0.1:10249/proxyMode")
			if err == nil && out != mode {
				err = fmt.Errorf("it is %q", out)
			}
			return err
		}); err != nil {
			c.t.Errorf("kube-proxy's mode is not %s: %v", mode, err)
		}
		for _, address := range []string{plain, sticky, machineAddress + ":30080", machineAddress + ":30081"} {
			c.eventually(30*time.Second, "rev 1", "exec", "client", "--", "wget", "-qO-", "-T", "5", "http://"+address)
		}
		seen := map[string]bool{}
		for range 8 {
			seen[c.in("client", "wget", "-qO-", "-T", "5", "http://"+sticky)] = true
		}
		if len(seen) != 1 {
			c.t.Errorf("%s: session affinity led to %v", mode, seen)
		}
	}
	c.ctl("delete", "service", "sticky", "headless")
}

// headless looks the pods' addresses up. They are read anew at each try: a pod that a roll-out replaced may still be ending at the first.
func (c *cluster) headless() {
	c.t.Helper()
	if err := poll(c.ctx, 30*time.Second, func() error {
		ips, err := c.try("get", "pods", "-l", "app=web", "-o", "jsonpath={.items[*].status.podIP}")
		if err != nil {
			return err
		}
		names, err := c.try("exec", "client", "--", "nslookup", "headless.default.svc.cluster.local")
		if err != nil {
			return err
		}
		want, got := strings.Fields(ips), strings.Fields(names)
		for _, ip := range want {
			if !slices.Contains(got, ip) {
				return fmt.Errorf("no %s in %s", ip, names)
			}
		}
		if len(want) < 2 {
			return fmt.Errorf("%d pods", len(want))
		}
		return nil
	}); err != nil {
		c.t.Fatalf("look up the pods of the headless service: %v", err)
	}
}

func twoContainers(c *cluster) {
	c.apply(`
apiVersion: v1
kind: ConfigMap
metadata: {name: two}
data: {greeting: from-config}
---
apiVersion: v1
kind: Pod
metadata: {name: two}
spec:
  terminationGracePeriodSeconds: 1
  volumes: [{name: shared, emptyDir: {}}, {name: config, configMap: {name: two}}]
  initContainers:
  - {name: first, image: ` + image + `, command: [sh, -c, "cat /config/greeting > /shared/index.html"], volumeMounts: [{name: shared, mountPath: /shared}, {name: config, mountPath: /config}]}
  containers:
  - {name: server, image: ` + image + `, command: [httpd, -f, -p, "8081", -h, /shared], volumeMounts: [{name: shared, mountPath: /shared}]}
  - {name: helper, image: ` + image + `, command: [sleep, "86400"], volumeMounts: [{name: shared, mountPath: /shared}]}
`)
	c.ctl("wait", "--for=condition=Ready", "pod/two", "--timeout=60s")
	if out := c.ctl("exec", "two", "-c", "helper", "--", "wget", "-qO-", "http://127.0.0.1:8081"); out != "from-config" {
		c.t.Errorf("over localhost: %q", out)
	}
	c.ctl("exec", "two", "-c", "server", "--", "sh", "-c", "echo written > /shared/file")
	if out := c.ctl("exec", "two", "-c", "helper", "--", "cat", "/shared/file"); out != "written" {
		c.t.Errorf("shared volume: %q", out)
	}
	c.ctl("delete", "pod", "two", "configmap", "two", "--ignore-not-found")
}

func restarts(c *cluster) {
	c.ctl("exec", "client", "--", "sh", "-c", "kill -9 -1 || true; kill 1 || true")
	pod := c.ctl("get", "pods", "-l", "app=web", "-o", "jsonpath={.items[0].metadata.name}")
	uid := c.ctl("get", "pod", pod, "-o", "jsonpath={.metadata.uid}")
	// The container's first process is killed from outside, as the kernel would.
	out, err := c.m.run(c.ctx, "sh", "-c", `pid=$(pgrep -f "httpd -f -p 8080" | head -1); kill -9 $pid`)
	if err != nil {
		c.t.Fatalf("kill a container: %v\n%s", err, out)
	}
	c.eventually(time.Minute, "1", "get", "pods", "-l", "app=web", "-o", "jsonpath={.items[*].status.containerStatuses[0].restartCount}")
	c.ctl("rollout", "status", "deployment/web", "--timeout=60s")
	c.ctl("delete", "pod", pod)
	c.ctl("rollout", "status", "deployment/web", "--timeout=60s")
	if again := c.ctl("get", "pods", "-l", "app=web", "-o", "jsonpath={.items[*].metadata.uid}"); strings.Contains(again, uid) || len(strings.Fields(again)) != 2 {
		c.t.Errorf("after the deletion of %s: %s", uid, again)
	}
}

func staticPods(c *cluster) {
	const path = "/etc/kubernetes/manifests/static.yaml"
	node := c.ctl("get", "nodes", "-o", "jsonpath={.items[0].metadata.name}")
	write := func(text string) {
		c.t.Helper()
		cmd := c.m.command(c.ctx, "sh", "-c", "cat > "+path)
		cmd.Stdin = strings.NewReader(text)
		if out, err := cmd.output(); err != nil {
			c.t.Fatalf("write %s: %v %s", path, err, out)
		}
	}
	manifest := `{apiVersion: v1, kind: Pod, metadata: {name: static, labels: {rev: "%s"}}, spec: {terminationGracePeriodSeconds: 1, containers: [{name: c, image: "` + image + `", command: [sleep, "86400"]}]}}`
	write(fmt.Sprintf(manifest, "1"))
	c.eventually(time.Minute, "Running", "get", "pod", "static-"+node, "-o", "jsonpath={.status.phase}")
	write(fmt.Sprintf(manifest, "2"))
	c.eventually(time.Minute, "2 Running", "get", "pod", "static-"+node, "-o", "jsonpath={.metadata.labels.rev} {.status.phase}")
	write("{this is not a pod")
	if err := poll(c.ctx, 30*time.Second, func() error {
		out, err := c.m.run(c.ctx, "sh", "-c", "journalctl -u kubelet --no-pager | grep "+path)
		if err != nil {
			return fmt.Errorf("the kubelet's log does not name the file: %w %s", err, out)
		}
		return nil
	}); err != nil {
		c.t.Error(err)
	}
	if out := c.ctl("get", "pod", "-n", "kube-system", "kube-scheduler-"+node, "-o", "jsonpath={.status.phase} {.status.containerStatuses[0].restartCount}"); out != "Running 0" {
		c.t.Errorf("the scheduler beside an unreadable manifest: %s", out)
	}
	if out, err := c.m.run(c.ctx, "rm", path); err != nil {
		c.t.Fatalf("remove %s: %v %s", path, err, out)
	}
	if err := poll(c.ctx, time.Minute, func() error {
		if out, err := c.try("get", "pod", "static-"+node); err == nil {
			return fmt.Errorf("still there: %s", out)
		}
		return nil
	}); err != nil {
		c.t.Error(err)
	}
}

func wrongImage(c *cluster) {
	c.ctl("run", "wrong", "--image=localhost/nothing:1")
	c.eventually(time.Minute, "ErrImagePull", "get", "pod", "wrong", "--no-headers")
	c.eventually(90*time.Second, "ImagePullBackOff", "get", "pod", "wrong", "--no-headers")
	c.ctl("delete", "pod", "wrong", "--grace-period=1")
}

func unschedulable(c *cluster) {
	c.ctl("run", "huge", "--image="+image, `--overrides={"spec":{"containers":[{"name":"huge","image":"`+image+`","resources":{"requests":{"cpu":"1000"}}}]}}`)
	c.eventually(time.Minute, "0/1 nodes are available: 1 Insufficient cpu", "events", "--for", "pod/huge")
	c.eventually(20*time.Second, "Insufficient cpu", "why", "pod/huge")
	c.ctl("delete", "pod", "huge")
}

func introspection(c *cluster) {
	out := c.ctl("components")
	for _, name := range []string{"kube-apiserver", "kube-scheduler", "kube-controller-manager", "kubelet", "kube-proxy"} {
		if !strings.Contains(out, name) {
			c.t.Errorf("no %s in:\n%s", name, out)
		}
	}
	if out := c.ctl("options", "kube-scheduler"); !strings.Contains(out, "leaderElection") {
		c.t.Errorf("options:\n%s", out)
	}
	c.ctl("create", "namespace", "strict")
	c.ctl("label", "namespace", "strict", "pod-security.kubernetes.io/enforce=restricted")
	if out, err := c.try("run", "refused", "-n", "strict", "--image="+image); err == nil || !strings.Contains(out, "violates PodSecurity") {
		c.t.Errorf("a pod that breaks the rules of its namespace: %v\n%s", err, out)
	}
	if out := c.ctl("why", "-n", "strict", "pod/refused"); !strings.Contains(out, "PodSecurity") {
		c.t.Errorf("why:\n%s", out)
	}
	c.ctl("delete", "namespace", "strict")
	for _, path := range []string{"/healthz", "/livez", "/readyz?verbose", "/metrics", "/version", "/openapi/v2", "/flagz", "/statusz"} {
		c.ctl("get", "--raw", path)
	}
	if out := c.ctl("explain", "deployment.spec.strategy"); !strings.Contains(out, "rollingUpdate") {
		c.t.Errorf("explain:\n%s", out)
	}
}

// badInput gets a clear error and changes nothing.
func badInput(c *cluster) {
	sum := func() string {
		out, err := c.m.run(c.ctx, "sh", "-c", "find /etc/kubernetes /var/lib/kubelet/config.yaml -type f | sort | xargs sha256sum")
		if err != nil {
			c.t.Fatalf("sum of the files: %v %s", err, out)
		}
		return out
	}
	before := sum()
	out, err := c.try("init", "--apiserver-advertise-address=203.0.113.9")
	if err == nil {
		c.t.Error("ctl init on a machine that has a cluster succeeded")
	}
	for _, problem := range []string{"Port-6443", "Port-10250", "DirAvailable", "AdvertiseAddress", "ctl reset"} {
		if !strings.Contains(out, problem) {
			c.t.Errorf("ctl init on a machine that has a cluster does not say %s:\n%s", problem, out)
		}
	}
	if after := sum(); after != before {
		c.t.Errorf("a refused ctl init changed files:\n%s\n%s", before, after)
	}
	for what, line := range map[string]struct{ script, code, names string }{
		"not root":          {"setpriv --reuid=65534 --regid=65534 --clear-groups /opt/src/ctl init", "1", "run it as root"},
		"a wrong flag":      {"/opt/src/kube-scheduler --frobnicate=1", "1", "--frobnicate"},
		"a wrong key":       {"printf 'apiVersion: kubelet.config.k8s.io/v1beta1\\nkind: KubeletConfiguration\\nmaxPodz: 3\\n' > /tmp/k.yaml; /opt/src/kubelet --config=/tmp/k.yaml", "1", "maxPodz"},
		"a malformed body":  {"echo '{\"kind\":\"Pod\",' | /opt/src/ctl create --raw /api/v1/namespaces/default/pods -f -", "1", "BadRequest"},
		"an unknown field":  {"/opt/src/ctl create deployment x --image=y --dry-run=client -o json | sed 's/\"replicas\"/\"replicaz\"/' | /opt/src/ctl create -f -", "1", "replicaz"},
		"an invalid field":  {"/opt/src/ctl run Bad_Name --image=x", "1", "metadata.name"},
		"an invalid number": {"/opt/src/ctl scale deployment/web --replicas=-1", "1", "replicas"},
	} {
		out, err := c.m.run(c.ctx, "bash", "-c", "set -o pipefail; "+line.script)
		if err == nil || !strings.Contains(err.Error(), "exit status "+line.code) || !strings.Contains(out, line.names) {
			c.t.Errorf("%s: %v, want exit status %s and %q in:\n%s", what, err, line.code, line.names, out)
		}
	}
}

// kubeletKilled checks that containers outlive the kubelet.
func kubeletKilled(c *cluster) {
	tasks := func() string {
		out, err := c.m.run(c.ctx, "sh", "-c", "ctr -n k8s.io task ls -q | sort")
		if err != nil {
			c.t.Fatalf("list tasks: %v %s", err, out)
		}
		return out
	}
	before := tasks()
	if out, err := c.m.run(c.ctx, "systemctl", "kill", "-s", "KILL", "--kill-who=main", "kubelet"); err != nil {
		c.t.Fatalf("kill the kubelet: %v %s", err, out)
	}
	if err := poll(c.ctx, time.Minute, func() error {
		out, err := c.m.run(c.ctx, "systemctl", "is-active", "kubelet")
		if err != nil || strings.TrimSpace(out) != "active" {
			return fmt.Errorf("kubelet is %q: %w", out, err)
		}
		return nil
	}); err != nil {
		c.t.Fatal(err)
	}
	_ = poll(c.ctx, 10*time.Second, func() error { return context.DeadlineExceeded })
	if after := tasks(); after != before {
		c.t.Errorf("containers changed:\n%s\nafter:\n%s", before, after)
	}
}

// reset checks that ctl reset leaves nothing behind.
func (c *cluster) reset() {
	c.t.Helper()
	uids := c.ctl("get", "pods", "-A", "-o", "jsonpath={.items[*].metadata.uid}")
	if out, err := c.try("reset", "--force"); err != nil {
		c.t.Errorf("ctl reset: %v\n%s", err, out)
	}
	for what, script := range map[string]string{
		"files":      `for d in /etc/kubernetes /var/lib/kubelet /var/lib/etcd /etc/cni/net.d /var/log/pods /var/log/containers; do [ -d $d ] && find $d -mindepth 1; done`,
		"mounts":     `grep -E " /var/lib/kubelet| /run/netns/cni|/rootfs |/shm " /proc/mounts | grep -v " /dev/shm "`,
		"rules":      `nft list tables | grep -i kube; iptables-save | grep -E "^:(KUBE|CNI)-"`,
		"links":      `ip -o link | grep -E "cni0|veth"`,
		"containers": `ctr -n k8s.io containers ls -q`,
		"cgroups":    `for uid in ` + uids + `; do find /sys/fs/cgroup -maxdepth 5 -name "*$uid*"; done`,
	} {
		out, err := c.m.run(c.ctx, "sh", "-c", script+"; true")
		if err != nil || strings.TrimSpace(out) != "" {
			c.t.Errorf("ctl reset left %s behind: %v\n%s", what, err, out)
		}
	}
}
