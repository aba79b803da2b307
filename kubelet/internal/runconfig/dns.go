package runconfig

import (
	"bufio"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Limits of a resolv.conf, as the API documents them.
const (
	maxNameservers = 3
	maxSearches    = 32
	maxSearchChars = 2048
	maxHostname    = 63
)

// DNSRules are the cluster's resolver settings.
type DNSRules struct {
	ClusterDNS    []string
	ClusterDomain string
	HostResolv    string // contents of the node's resolv.conf
}

// DNS builds the pod's resolver configuration.
func DNS(pod *corev1.Pod, rules DNSRules) *runtimeapi.DNSConfig {
	out := parseResolv(rules.HostResolv)
	policy := pod.Spec.DNSPolicy
	if policy == corev1.DNSClusterFirst && pod.Spec.HostNetwork {
		policy = corev1.DNSDefault
	}
	switch policy {
	case corev1.DNSNone:
		out = &runtimeapi.DNSConfig{}
	case corev1.DNSClusterFirst, corev1.DNSClusterFirstWithHostNet:
		if len(rules.ClusterDNS) == 0 {
			break
		}
		host := out.Searches
		out.Servers, out.Searches, out.Options = rules.ClusterDNS, nil, []string{"ndots:5"}
		if rules.ClusterDomain != "" {
			svc := "svc." + rules.ClusterDomain
			out.Searches = []string{pod.Namespace + "." + svc, svc, rules.ClusterDomain}
		}
		out.Searches = unique(append(out.Searches, host...))
	}
	if c := pod.Spec.DNSConfig; c != nil {
		out.Servers = unique(append(slices.Clone(out.Servers), c.Nameservers...))
		out.Searches = unique(append(slices.Clone(out.Searches), c.Searches...))
		out.Options = mergeOptions(out.Options, c.Options)
	}
	return clip(out)
}

func clip(c *runtimeapi.DNSConfig) *runtimeapi.DNSConfig {
	c.Servers = c.Servers[:min(len(c.Servers), maxNameservers)]
	c.Searches = c.Searches[:min(len(c.Searches), maxSearches)]
	for len(strings.Join(c.Searches, " ")) > maxSearchChars {
		c.Searches = c.Searches[:len(c.Searches)-1]
	}
	return c
}

func mergeOptions(have []string, add []corev1.PodDNSConfigOption) []string {
	out := slices.Clone(have)
	for _, o := range add {
		text := o.Name
		if o.Value != nil && *o.Value != "" {
			text += ":" + *o.Value
		}
		i := slices.IndexFunc(out, func(s string) bool { name, _, _ := strings.Cut(s, ":"); return name == o.Name })
		if i >= 0 {
			out[i] = text
		} else {
			out = append(out, text)
		}
	}
	return out
}

func unique(list []string) []string {
	var out []string
	for _, s := range list {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

func parseResolv(text string) *runtimeapi.DNSConfig {
	out := &runtimeapi.DNSConfig{}
	sc := bufio.NewScanner(strings.NewReader(text))
	for sc.Scan() {
		f := strings.Fields(sc.Text())
		if len(f) < 2 || strings.HasPrefix(f[0], "#") || strings.HasPrefix(f[0], ";") {
			continue
		}
		switch f[0] {
		case "nameserver":
			out.Servers = append(out.Servers, f[1])
		case "search", "domain":
			out.Searches = nil
			for _, s := range f[1:] {
				if s != "." {
					s = strings.TrimSuffix(s, ".")
				}
				out.Searches = append(out.Searches, s)
			}
		case "options":
			out.Options = append(out.Options, f[1:]...)
		}
	}
	return out
}

// Hostname is the pod's short name and its domain in the cluster, "" where it has none.
func Hostname(pod *corev1.Pod, clusterDomain string) (host, domain string) {
	host = pod.Spec.Hostname
	if host == "" {
		host = pod.Name
		if len(host) > maxHostname {
			host = strings.TrimRight(host[:maxHostname], "-.")
		}
	}
	if pod.Spec.HostnameOverride != nil && *pod.Spec.HostnameOverride != "" {
		return *pod.Spec.HostnameOverride, ""
	}
	if pod.Spec.Subdomain != "" {
		domain = fmt.Sprintf("%s.%s.svc.%s", pod.Spec.Subdomain, pod.Namespace, clusterDomain)
	}
	return host, domain
}

// kernelHostname is the name set in the sandbox: the FQDN where the pod asks for it.
func kernelHostname(pod *corev1.Pod, clusterDomain string) (string, error) {
	host, domain := Hostname(pod, clusterDomain)
	if domain == "" || pod.Spec.SetHostnameAsFQDN == nil || !*pod.Spec.SetHostnameAsFQDN {
		return host, nil
	}
	fqdn := host + "." + domain
	if len(fqdn) > maxHostname+1 {
		return "", fmt.Errorf("failed to construct FQDN from pod hostname and cluster domain, FQDN %s is too long (%d characters is the max, %d characters requested)", fqdn, maxHostname+1, len(fqdn))
	}
	return fqdn, nil
}

// HostsFile is the text of the pod's /etc/hosts; hostFile is the node's, used by host-network pods.
func HostsFile(pod *corev1.Pod, ips []string, clusterDomain, hostFile string) string {
	var b strings.Builder
	if pod.Spec.HostNetwork {
		b.WriteString("# Kubernetes-managed hosts file (host network).\n" + hostFile)
	} else {
		b.WriteString("# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n" +
			"fe00::\tip6-localnet\nfe00::\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n")
		host, domain := Hostname(pod, clusterDomain)
		for _, ip := range ips {
			if domain != "" {
				fmt.Fprintf(&b, "%s\t%s.%s\t%s\n", ip, host, domain, host)
			} else {
				fmt.Fprintf(&b, "%s\t%s\n", ip, host)
			}
		}
	}
	if len(pod.Spec.HostAliases) > 0 {
		b.WriteString("\n# Entries added by HostAliases.\n")
		for _, a := range pod.Spec.HostAliases {
			fmt.Fprintf(&b, "%s\t%s\n", a.IP, strings.Join(a.Hostnames, "\t"))
		}
	}
	return b.String()
}
