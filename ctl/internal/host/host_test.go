package host

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestNextDelay(t *testing.T) {
	var got []time.Duration
	var d time.Duration
	for _, ran := range []time.Duration{0, 0, 0, 0, 0, 0, 0, 2 * time.Minute} {
		d = nextDelay(d, ran)
		got = append(got, d)
	}
	s := time.Second
	if diff := cmp.Diff([]time.Duration{s, 2 * s, 4 * s, 8 * s, 16 * s, 30 * s, 30 * s, s}, got); diff != "" {
		t.Fatal(diff)
	}
}

func TestRestrictedConfig(t *testing.T) {
	for name, tc := range map[string]struct{ text, want string }{
		"none":      {"", "version = 2\n\n[plugins.\"io.containerd.grpc.v1.cri\"]\n  restrict_oom_score_adj = true\n"},
		"Debian's":  {"version = 2\n\n[plugins]\n  [plugins.\"io.containerd.grpc.v1.cri\"]\n    [plugins.\"io.containerd.grpc.v1.cri\".cni]\n      bin_dir = \"/usr/lib/cni\"\n", "version = 2\n\n[plugins]\n  [plugins.\"io.containerd.grpc.v1.cri\"]\n  restrict_oom_score_adj = true\n    [plugins.\"io.containerd.grpc.v1.cri\".cni]\n      bin_dir = \"/usr/lib/cni\"\n"},
		"set false": {"version = 2\n[plugins.'io.containerd.grpc.v1.cri']\nrestrict_oom_score_adj = false\nx = 1\n", "version = 2\n[plugins.'io.containerd.grpc.v1.cri']\n  restrict_oom_score_adj = true\nx = 1\n"},
		"version 3": {"version = 3\n[plugins.'io.containerd.cri.v1.images']\n  snapshotter = 'x'\n", "version = 3\n[plugins.'io.containerd.cri.v1.images']\n  snapshotter = 'x'\n\n[plugins.\"io.containerd.cri.v1.runtime\"]\n  restrict_oom_score_adj = true\n"},
	} {
		got := restrictedConfig(tc.text)
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		if again := restrictedConfig(got); again != got {
			t.Errorf("%s: changed again: %s", name, again)
		}
	}
}

func TestArgsFrom(t *testing.T) {
	f := filepath.Join(t.TempDir(), "flags.env")
	if err := os.WriteFile(f, []byte("# x\nKUBELET_KUBEADM_ARGS=\"--a=1 --b\"\nOTHER=x\nKUBELET_EXTRA_ARGS=--c=2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"--a=1", "--b", "--c=2"}, argsFrom([]string{f, "/does/not/exist"})); d != "" {
		t.Fatal(d)
	}
}

func TestRemoval(t *testing.T) {
	save := `*nat
:PREROUTING ACCEPT [0:0]
:KUBE-SERVICES - [0:0]
:CNI-0123 - [0:0]
-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A POSTROUTING -s 10.244.0.2/32 -m comment --comment "name: \"flagship\" id: \"x\"" -j CNI-0123
-A POSTROUTING -s 10.9.0.2/32 -m comment --comment "name: \"other\" id: \"y\"" -j CNI-4567
-A KUBE-SERVICES -j RETURN
COMMIT
`
	kube := removal(save, "nat", func(c, _ string) bool { return strings.HasPrefix(c, "KUBE-") })
	want := "*nat\n:KUBE-SERVICES - [0:0]\n-D PREROUTING -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES\n-X KUBE-SERVICES\nCOMMIT\n"
	if d := cmp.Diff(want, kube); d != "" {
		t.Error(d)
	}
	cni := removal(save, "nat", func(c, rule string) bool {
		return strings.HasPrefix(c, "CNI-") && strings.Contains(strings.ReplaceAll(rule, `\`, ""), `name: "flagship"`)
	})
	if !strings.Contains(cni, "-X CNI-0123") || strings.Contains(cni, "CNI-4567") {
		t.Error(cni)
	}
	if got := removal(save, "nat", func(string, string) bool { return false }); got != "" {
		t.Errorf("nothing selected, but %q", got)
	}
}

func TestUnusedCgroups(t *testing.T) {
	dirs := []string{"/c/kubepods", "/c/kubepods/besteffort", "/c/kubepods/besteffort/poda", "/c/kubepods/burstable", "/c/kubepods/burstable/podb", "/c/kubepods/burstable/podb/x"}
	for name, tc := range map[string]struct {
		used string
		want []string
	}{
		"none": {"", []string{dirs[5], dirs[4], dirs[3], dirs[2], dirs[1], dirs[0]}},
		"one":  {dirs[5], []string{dirs[2]}},
	} {
		if d := cmp.Diff(tc.want, unused(dirs, func(p string) bool { return p == tc.used })); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
}
