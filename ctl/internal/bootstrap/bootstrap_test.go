package bootstrap

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"flagship/ctl/internal/host"
	"flagship/ctl/internal/spec"
	"flagship/manifests"
)

func docs(t *testing.T) *spec.Documents {
	t.Helper()
	d := &spec.Documents{}
	m := spec.Machine{Hostname: "n1", Address: "192.0.2.2"}
	if err := d.Complete(spec.Flags{}, m, time.Time{}, func() string { return "abcdef.0123456789abcdef" }); err != nil {
		t.Fatal(err)
	}
	return d
}

func TestStaticPods(t *testing.T) {
	d := docs(t)
	d.Cluster.APIServer.ExtraArgs = []spec.Arg{{Name: "event-ttl", Value: "2h"}, {Name: "authorization-mode", Value: "RBAC"}}
	d.Cluster.APIServer.ExtraVolumes = []spec.HostPathMount{{Name: "x", HostPath: "/x", MountPath: "/y", ReadOnly: true}}
	d.Cluster.Etcd.Local.ExtraArgs = []spec.Arg{{Name: "unsafe-no-fsync", Value: "true"}}
	for _, name := range []string{"kube-apiserver", "kube-controller-manager", "kube-scheduler"} {
		text, err := staticPod(name, d, (&run{docs: d}).render())
		if err != nil {
			t.Fatal(err)
		}
		pod := &corev1.Pod{}
		if err := yaml.UnmarshalStrict(text, pod); err != nil {
			t.Fatalf("%s: %v\n%s", name, err, text)
		}
		c := pod.Spec.Containers[0]
		if pod.Name != name || c.Command[0] != name || !pod.Spec.HostNetwork || c.LivenessProbe == nil {
			t.Errorf("%s: %+v", name, pod)
		}
		if name != "kube-apiserver" {
			continue
		}
		all := strings.Join(c.Command, "\n")
		for _, want := range []string{"--event-ttl=2h", "--authorization-mode=RBAC", "--etcd-unsafe-no-fsync=true", "--etcd-data-dir=/var/lib/etcd", "--advertise-address=192.0.2.2"} {
			if strings.Count(all, want) != 1 {
				t.Errorf("the command has not once %s:\n%s", want, all)
			}
		}
		if strings.Contains(all, "Node,RBAC") || strings.Contains(all, "--etcd-servers") {
			t.Errorf("the command has what was replaced:\n%s", all)
		}
	}
}

func TestExternalEtcd(t *testing.T) {
	d := docs(t)
	d.Cluster.Etcd = spec.Etcd{External: &spec.ExternalEtcd{Endpoints: []string{"https://a:2379", "https://b:2379"}, CAFile: "/ca"}}
	text, err := staticPod("kube-apiserver", d, (&run{docs: d}).render())
	if err != nil {
		t.Fatal(err)
	}
	if s := string(text); !strings.Contains(s, "--etcd-servers=https://a:2379,https://b:2379") || strings.Contains(s, "etcd-data") || strings.Contains(s, "--etcd-certfile") {
		t.Fatal(s)
	}
}

func TestAddonsRender(t *testing.T) {
	v := (&run{docs: docs(t)}).render()
	v.ProxyConfig = "mode: nftables\nclientConnection:\n  kubeconfig: /x\n"
	for _, resolver := range []bool{true, false} {
		v.Resolver = resolver
		for _, f := range []string{"addons/coredns.yaml", "addons/kube-proxy.yaml", "bootstrap/tokens.yaml", "bootstrap/config-readers.yaml", "bootstrap/cluster-admins.yaml"} {
			text, err := manifests.Render(f, v)
			if err != nil {
				t.Fatal(err)
			}
			for doc := range strings.SplitSeq(string(text), "\n---\n") {
				var o map[string]any
				if err := yaml.UnmarshalStrict([]byte(doc), &o); err != nil || o["kind"] == nil {
					t.Fatalf("%s: %v\n%s", f, err, doc)
				}
			}
			if f == "addons/coredns.yaml" && strings.Contains(string(text), "rcode NXDOMAIN") == resolver {
				t.Errorf("with a resolver %v:\n%s", resolver, text)
			}
		}
	}
}

// TestProxyTakesTurns is about flags: the manifest must be good for upstream's kube-proxy too.
func TestProxyTakesTurns(t *testing.T) {
	v := (&run{docs: docs(t)}).render()
	v.PodNetwork = true
	text, err := manifests.Render("addons/kube-proxy.yaml", v)
	if err != nil {
		t.Fatal(err)
	}
	all := strings.Split(string(text), "\n---\n")
	set := &appsv1.DaemonSet{}
	if err := yaml.UnmarshalStrict([]byte(all[len(all)-1]), set); err != nil {
		t.Fatal(err)
	}
	c := set.Spec.Template.Spec.Containers[0]
	want := []string{"/usr/local/bin/kube-proxy", "--config=/var/lib/kube-proxy/config.conf", "--hostname-override=$(NODE_NAME)"}
	if diff := cmp.Diff(want, c.Command); diff != "" {
		t.Errorf("command (-want +got):\n%s", diff)
	}
	if n := len(c.Env); n != 2 || c.Env[1] != (corev1.EnvVar{Name: "FLAGSHIP_POD_NETWORK", Value: "true"}) {
		t.Errorf("environment: %+v", c.Env)
	}
}

func TestLocalKubeletConfig(t *testing.T) {
	d := docs(t)
	d.Kubelet = map[string]any{"maxPods": 50, "clusterDomain": "x.y"}
	full := kubeletConfig(d)
	if full["maxPods"] != 50 || full["clusterDomain"] != "x.y" || full["containerRuntimeEndpoint"] != nil {
		t.Errorf("cluster's: %v", full)
	}
	local := localKubeletConfig(full, "unix:///s", host.Info{SystemdCgroup: true}, true, true)
	got := []any{local["containerRuntimeEndpoint"], local["cgroupDriver"], local["failCgroupV1"], local["resolvConf"]}
	if diff := cmp.Diff([]any{"unix:///s", "systemd", false, resolvedConf}, got); diff != "" {
		t.Error(diff)
	}
	if full["failCgroupV1"] != nil {
		t.Error("what is of one machine got into the cluster's configuration")
	}
}

func TestVerifyJWS(t *testing.T) {
	// Made with HMAC-SHA256 over {"alg":"HS256","kid":"abcdef"} and the text "hello".
	const header = "eyJhbGciOiJIUzI1NiIsImtpZCI6ImFiY2RlZiJ9"
	good := header + ".." + "MxsnbCjBaYzcbNIFa06F-wuF9LX26rhMlrL4zA1511s"
	for name, tc := range map[string]struct{ jws, text, token string }{
		"not a JWS":     {"x", "hello", "abcdef.0123456789abcdef"},
		"with payload":  {header + ".aGVsbG8.x", "hello", "abcdef.0123456789abcdef"},
		"other token":   {good, "hello", "abcdeg.0123456789abcdef"},
		"other secret":  {good, "hello", "abcdef.0123456789abcdee"},
		"other content": {good, "hellp", "abcdef.0123456789abcdef"},
	} {
		if err := verifyJWS(tc.jws, tc.text, tc.token); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if err := verifyJWS(good, "hello", "abcdef.0123456789abcdef"); err != nil {
		t.Error(err)
	}
}

func TestSkipUnknownPhase(t *testing.T) {
	r := &run{}
	err := r.phases(t.Context(), initPhases(), []string{"nonsense"}, nil)
	if err == nil || !strings.Contains(err.Error(), `"nonsense"`) {
		t.Fatal(err)
	}
}
