package preflight

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func fine() Facts {
	return Facts{
		Runtime: "containerd 2.4.2", SysResource: true, OOMKnown: true, CPUs: 2, MemoryMiB: 2048, DiskMiB: 10000, Kubelet: "/usr/bin/kubelet",
		LocalAddresses: []string{"192.0.2.2"},
	}
}

func TestPlan(t *testing.T) {
	want := Want{AdvertiseAddress: "192.0.2.2", Subnets: []string{"10.244.0.0/16", "10.96.0.0/12"}, ControlPlane: true}
	for name, tc := range map[string]struct {
		change func(*Facts)
		want   []string
	}{
		"fine":            {func(*Facts) {}, nil},
		"not root":        {func(f *Facts) { f.UID = 1000 }, []string{"IsPrivilegedUser"}},
		"no runtime":      {func(f *Facts) { f.Runtime = "" }, []string{"CRI"}},
		"can start one":   {func(f *Facts) { f.Runtime, f.CanStart = "", true }, nil},
		"named one":       {func(f *Facts) { f.Runtime, f.CanStart, f.SocketAsked = "", true, "/x" }, []string{"CRI"}},
		"no capability":   {func(f *Facts) { f.SysResource = false }, []string{"OOMScoreAdj"}},
		"ctl's to mend":   {func(f *Facts) { f.SysResource, f.RuntimeUnit = false, true }, nil},
		"restricted":      {func(f *Facts) { f.SysResource, f.RestrictOOM = false, true }, nil},
		"ours":            {func(f *Facts) { f.SysResource, f.RuntimeOurs = false, true }, nil},
		"ports":           {func(f *Facts) { f.Taken = map[int]string{10250: "x (pid 2)", 6443: ""} }, []string{"Port-6443", "Port-10250"}},
		"leftovers":       {func(f *Facts) { f.Leftovers = []string{"/var/lib/etcd"} }, []string{"DirAvailable-var-lib-etcd"}},
		"small":           {func(f *Facts) { f.MemoryMiB, f.DiskMiB = 100, 100 }, []string{"Mem", "Disk"}},
		"programs":        {func(f *Facts) { f.Missing = []string{"nft", "CNI plugin bridge"} }, []string{"FileExisting-nft", "FileExisting-CNI plugin bridge"}},
		"swap only warns": {func(f *Facts) { f.Swap = true }, nil},
		"other address":   {func(f *Facts) { f.LocalAddresses = []string{"192.0.2.9"} }, []string{"AdvertiseAddress"}},
		"all at once":     {func(f *Facts) { f.UID, f.Runtime, f.DiskMiB = 1, "", 1 }, []string{"IsPrivilegedUser", "CRI", "Disk"}},
	} {
		t.Run(name, func(t *testing.T) {
			f := fine()
			tc.change(&f)
			var got []string
			for _, x := range Fatal(Plan(f, want), nil) {
				got = append(got, x.Name)
				if x.Fix == "" {
					t.Errorf("%s has no fix", x.Name)
				}
			}
			if d := cmp.Diff(tc.want, got); d != "" {
				t.Fatal(d)
			}
			if left := Fatal(Plan(f, want), []string{"all"}); len(left) != 0 {
				t.Errorf("with all ignored: %v", left)
			}
		})
	}
}

func TestSubnets(t *testing.T) {
	f := fine()
	all := Plan(f, Want{AdvertiseAddress: "192.0.2.2", Subnets: []string{"192.0.0.0/16", "192.0.2.0/24"}, ControlPlane: true})
	var text []string
	for _, x := range all {
		text = append(text, x.Problem)
	}
	if got := strings.Join(text, "\n"); strings.Count(got, "contains this machine's address") != 2 || !strings.Contains(got, "overlap") {
		t.Fatal(got)
	}
}
