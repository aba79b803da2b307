package runconfig

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func named(spec corev1.PodSpec) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "shop", UID: "u"}, Spec: spec}
}

func TestDNS(t *testing.T) {
	rules := DNSRules{ClusterDNS: []string{"10.96.0.10"}, ClusterDomain: "cluster.local", HostResolv: "# host\nnameserver 9.9.9.9\nsearch example.org.\noptions rotate\n"}
	value := "3"
	tests := map[string]struct {
		spec  corev1.PodSpec
		rules DNSRules
		want  string
	}{
		"ClusterFirst":                 {corev1.PodSpec{DNSPolicy: "ClusterFirst"}, rules, "10.96.0.10 | shop.svc.cluster.local svc.cluster.local cluster.local example.org | ndots:5"},
		"ClusterFirst, host network":   {corev1.PodSpec{DNSPolicy: "ClusterFirst", HostNetwork: true}, rules, "9.9.9.9 | example.org | rotate"},
		"ClusterFirstWithHostNet":      {corev1.PodSpec{DNSPolicy: "ClusterFirstWithHostNet", HostNetwork: true}, rules, "10.96.0.10 | shop.svc.cluster.local svc.cluster.local cluster.local example.org | ndots:5"},
		"ClusterFirst, no cluster DNS": {corev1.PodSpec{DNSPolicy: "ClusterFirst"}, DNSRules{HostResolv: "nameserver 9.9.9.9"}, "9.9.9.9 |  | "},
		"Default":                      {corev1.PodSpec{DNSPolicy: "Default"}, rules, "9.9.9.9 | example.org | rotate"},
		"None":                         {corev1.PodSpec{DNSPolicy: "None", DNSConfig: &corev1.PodDNSConfig{Nameservers: []string{"1.1.1.1"}, Searches: []string{"a.b"}}}, rules, "1.1.1.1 | a.b | "},
		"merged": {
			corev1.PodSpec{DNSPolicy: "Default", DNSConfig: &corev1.PodDNSConfig{Nameservers: []string{"1.1.1.1", "9.9.9.9"}, Options: []corev1.PodDNSConfigOption{{Name: "ndots", Value: &value}, {Name: "rotate"}}}},
			rules, "9.9.9.9 1.1.1.1 | example.org | rotate ndots:3",
		},
		"too many servers": {corev1.PodSpec{DNSPolicy: "None", DNSConfig: &corev1.PodDNSConfig{Nameservers: []string{"1", "2", "3", "4"}}}, rules, "1 2 3 |  | "},
	}
	for name, tc := range tests {
		c := DNS(named(tc.spec), tc.rules)
		if got := strings.Join([]string{strings.Join(c.Servers, " "), strings.Join(c.Searches, " "), strings.Join(c.Options, " ")}, " | "); got != tc.want {
			t.Errorf("%s: %q, want %q", name, got, tc.want)
		}
	}
}

func TestHostsFile(t *testing.T) {
	const head = "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\nfe00::\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n"
	aliases := []corev1.HostAlias{{IP: "1.2.3.4", Hostnames: []string{"a", "b.c"}}}
	tests := map[string]struct {
		spec corev1.PodSpec
		want string
	}{
		"plain":        {corev1.PodSpec{}, head + "10.0.0.2\tweb\nfd00::2\tweb\n"},
		"subdomain":    {corev1.PodSpec{Hostname: "h", Subdomain: "sub"}, head + "10.0.0.2\th.sub.shop.svc.cluster.local\th\nfd00::2\th.sub.shop.svc.cluster.local\th\n"},
		"aliases":      {corev1.PodSpec{HostAliases: aliases}, head + "10.0.0.2\tweb\nfd00::2\tweb\n\n# Entries added by HostAliases.\n1.2.3.4\ta\tb.c\n"},
		"host network": {corev1.PodSpec{HostNetwork: true, HostAliases: aliases}, "# Kubernetes-managed hosts file (host network).\n127.0.0.1 node\n\n# Entries added by HostAliases.\n1.2.3.4\ta\tb.c\n"},
	}
	for name, tc := range tests {
		if diff := cmp.Diff(tc.want, HostsFile(named(tc.spec), []string{"10.0.0.2", "fd00::2"}, "cluster.local", "127.0.0.1 node\n")); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestKernelHostname(t *testing.T) {
	yes := true
	long := strings.Repeat("a", 62) + ".-x"
	tests := map[string]struct {
		pod  corev1.Pod
		want string // "" for an error
	}{
		"the pod's name":      {corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "web"}}, "web"},
		"a long name":         {corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: long}}, strings.Repeat("a", 62)},
		"its own":             {corev1.Pod{Spec: corev1.PodSpec{Hostname: "h"}}, "h"},
		"fully qualified":     {corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "n"}, Spec: corev1.PodSpec{Hostname: "h", Subdomain: "s", SetHostnameAsFQDN: &yes}}, "h.s.n.svc.cluster.local"},
		"too long a full one": {corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "n"}, Spec: corev1.PodSpec{Hostname: strings.Repeat("h", 60), Subdomain: "s", SetHostnameAsFQDN: &yes}}, ""},
	}
	for name, tc := range tests {
		got, err := kernelHostname(&tc.pod, "cluster.local")
		if got != tc.want || (err == nil) != (tc.want != "") {
			t.Errorf("%s: %q, %v, want %q", name, got, err, tc.want)
		}
	}
}

func TestFileValue(t *testing.T) {
	const text = "# comment\n\n  A='1'\nB='two\nlines' # and a comment\nC= 'empty'\nD=''\n"
	for name, want := range map[string]string{"A": "1", "B": "two\nlines", "C": "", "D": "", "E": ""} {
		if got, err := FileValue(strings.NewReader(text), name); err != nil || got != want {
			t.Errorf("%s = %q, %v, want %q", name, got, err, want)
		}
	}
	for what, bad := range map[string]string{
		"no =": "A", "blank before =": "A ='1'", "no quotes": "A=1", "nothing": "A=", "double quotes": `A="1"`, "not closed": "A='1", "more after it": "A='1'2", "no name": "='1'",
	} {
		if got, err := FileValue(strings.NewReader(bad), "A"); err == nil {
			t.Errorf("%s: %q was read from %q", what, got, bad)
		}
	}
}

func FuzzFileValue(f *testing.F) {
	f.Add("A='1'\nB='2'")
	f.Fuzz(func(t *testing.T, text string) {
		if v, err := FileValue(strings.NewReader(text), "A"); err == nil && v != "" && !strings.Contains(text, "A='") {
			t.Errorf("%q was read from %q", v, text)
		}
	})
}

func TestExpandAll(t *testing.T) {
	lookup := func(n string) (string, bool) { return "v", n == "A" }
	if got, err := expandAll("x/$(A)/$$(B)", lookup); err != nil || got != "x/v/$(B)" {
		t.Errorf("%q, %v", got, err)
	}
	if got, err := expandAll("x/$(B)", lookup); err == nil {
		t.Errorf("a missing variable became %q", got)
	}
}

func TestResourceValue(t *testing.T) {
	pod := named(corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Resources: corev1.ResourceRequirements{
		Requests: corev1.ResourceList{"cpu": resource.MustParse("250m"), "memory": resource.MustParse("32Mi")},
		Limits:   corev1.ResourceList{"cpu": resource.MustParse("1250m")},
	}}}})
	node := corev1.ResourceList{"memory": resource.MustParse("1Gi"), "cpu": resource.MustParse("4")}
	for name, tc := range map[string]struct{ res, divisor, want string }{
		"cpu is rounded up":                  {"requests.cpu", "", "1"},
		"in millicores":                      {"requests.cpu", "1m", "250"},
		"limit":                              {"limits.cpu", "1", "2"},
		"memory":                             {"requests.memory", "1Mi", "32"},
		"a limit that is not set":            {"limits.memory", "1Mi", "1024"},
		"a request that is not set":          {"requests.ephemeral-storage", "", "0"},
		"memory in units larger than itself": {"requests.memory", "1Gi", "1"},
	} {
		ref := &corev1.ResourceFieldSelector{ContainerName: "c", Resource: tc.res}
		if tc.divisor != "" {
			ref.Divisor = resource.MustParse(tc.divisor)
		}
		if got, err := ResourceValue(ref, pod, nil, node); err != nil || got != tc.want {
			t.Errorf("%s: %s, %v, want %s", name, got, err, tc.want)
		}
	}
	for _, bad := range []corev1.ResourceFieldSelector{{Resource: "limits.cpu"}, {ContainerName: "x", Resource: "limits.cpu"}, {ContainerName: "c", Resource: "cpu"}} {
		if got, err := ResourceValue(&bad, pod, nil, node); err == nil {
			t.Errorf("%v gave %s", bad, got)
		}
	}
}

func TestSecurity(t *testing.T) {
	yes, no, root, user := true, false, int64(0), int64(1000)
	pod := named(corev1.PodSpec{SecurityContext: &corev1.PodSecurityContext{RunAsUser: &user, RunAsGroup: &user, FSGroup: &root, SupplementalGroups: []int64{7}, SeccompProfile: &corev1.SeccompProfile{Type: "RuntimeDefault"}}})
	c := &corev1.Container{Name: "c", SecurityContext: &corev1.SecurityContext{AllowPrivilegeEscalation: &no, ReadOnlyRootFilesystem: &yes, Capabilities: &corev1.Capabilities{Add: []corev1.Capability{"NET_ADMIN"}, Drop: []corev1.Capability{"ALL"}}}}
	got, err := Security(pod, c, ImageUser{UID: &root}, SecurityRules{})
	if err != nil {
		t.Fatal(err)
	}
	if got.RunAsUser.GetValue() != 1000 || got.RunAsGroup.GetValue() != 1000 || !got.NoNewPrivs || !got.ReadonlyRootfs || got.Seccomp.ProfileType != runtimeapi.SecurityProfile_RuntimeDefault ||
		!cmp.Equal(got.SupplementalGroups, []int64{0, 7}) || got.Capabilities.AddCapabilities[0] != "NET_ADMIN" || got.Capabilities.DropCapabilities[0] != "ALL" || len(got.MaskedPaths) == 0 {
		t.Errorf("security context: %v", got)
	}
	unmasked := corev1.UnmaskedProcMount
	c.SecurityContext = &corev1.SecurityContext{Privileged: &yes, RunAsUser: &root, ProcMount: &unmasked}
	if got, err = Security(pod, c, ImageUser{}, SecurityRules{}); err != nil || !got.Privileged || got.RunAsUser.GetValue() != 0 || got.Seccomp.ProfileType != runtimeapi.SecurityProfile_Unconfined || got.NoNewPrivs || len(got.MaskedPaths) != 0 {
		t.Errorf("a privileged one: %v, %v", got, err)
	}
}

func TestVerifyNonRoot(t *testing.T) {
	yes, root, user := true, int64(0), int64(1000)
	tests := map[string]struct {
		sc   corev1.SecurityContext
		user ImageUser
		want string
	}{
		"not asked for":            {corev1.SecurityContext{}, ImageUser{UID: &root}, ""},
		"another user":             {corev1.SecurityContext{RunAsNonRoot: &yes, RunAsUser: &user}, ImageUser{UID: &root}, ""},
		"root by declaration":      {corev1.SecurityContext{RunAsNonRoot: &yes, RunAsUser: &root}, ImageUser{UID: &user}, "container's runAsUser breaks non-root policy"},
		"root by the image":        {corev1.SecurityContext{RunAsNonRoot: &yes}, ImageUser{UID: &root}, "container has runAsNonRoot and image will run as root"},
		"a name in the image":      {corev1.SecurityContext{RunAsNonRoot: &yes}, ImageUser{Name: "nobody"}, "container has runAsNonRoot and image has non-numeric user (nobody), cannot verify user is non-root"},
		"another user by an image": {corev1.SecurityContext{RunAsNonRoot: &yes}, ImageUser{UID: &user}, ""},
	}
	for name, tc := range tests {
		err := VerifyNonRoot(named(corev1.PodSpec{}), &corev1.Container{Name: "c", SecurityContext: &tc.sc}, tc.user)
		if (tc.want == "") != (err == nil) || (err != nil && err.Error() != tc.want+` (pod: "web_shop(u)", container: c)`) {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
	}
}

func TestLinuxResources(t *testing.T) {
	c := &corev1.Container{Name: "c", Resources: corev1.ResourceRequirements{
		Requests: corev1.ResourceList{"cpu": resource.MustParse("100m"), "memory": resource.MustParse("1Gi")},
		Limits:   corev1.ResourceList{"cpu": resource.MustParse("5m"), "memory": resource.MustParse("2Gi"), "hugepages-2Mi": resource.MustParse("4Mi")},
	}}
	pod := named(corev1.PodSpec{Containers: []corev1.Container{*c}})
	got := LinuxResources(pod, c, ResourceRules{CPUCFSQuota: true, CFSPeriod: 100000, MemoryCapacity: 8 << 30, CgroupV2: true})
	want := &runtimeapi.LinuxContainerResources{
		CpuShares: 102, CpuQuota: 1000, CpuPeriod: 100000, MemoryLimitInBytes: 2 << 30, OomScoreAdj: 875,
		HugepageLimits: []*runtimeapi.HugepageLimit{{PageSize: "2MB", Limit: 4 << 20}}, Unified: map[string]string{"memory.high": "max", "memory.oom.group": "1"},
	}
	if got.String() != want.String() {
		t.Errorf("got %v, want %v", got, want)
	}
	if got := LinuxResources(pod, &corev1.Container{Name: "d"}, ResourceRules{CPUCFSQuota: true, CFSPeriod: 100000}); got.CpuShares != 2 || got.CpuQuota != 0 || got.MemoryLimitInBytes != 0 || got.Unified != nil {
		t.Errorf("nothing declared: %v", got)
	}
}
