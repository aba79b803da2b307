package host

import (
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"flagship/manifests"
)

const conflist = "/etc/cni/net.d/10-flagship.conflist"

// Bridge is the interface that pods of this node hang on.
const Bridge = "cni0"

// ConfigureNetwork writes the CNI configuration of this node's part of the pod network.
func ConfigureNetwork(s *State, podCIDR string) error {
	text, err := manifests.Render("network/10-flagship.conflist", manifests.Values{PodCIDR: podCIDR})
	if err != nil {
		return err
	}
	if err := WriteFile(conflist, text, 0o644); err != nil {
		return err
	}
	s.PodCIDR = podCIDR
	s.Own(conflist)
	return s.Save()
}

// OtherNetworks are CNI configurations that are not ours: with one there, ctl leaves the network alone.
func OtherNetworks() []string {
	var out []string
	for _, pattern := range []string{"*.conf", "*.conflist", "*.json"} {
		found, _ := filepath.Glob(filepath.Join(filepath.Dir(conflist), pattern))
		for _, f := range found {
			if f != conflist {
				out = append(out, f)
			}
		}
	}
	return out
}

// Sysctls that pods need to reach each other through Services, beside the values that they must have.
func sysctls() map[string]string {
	return map[string]string{"net/ipv4/ip_forward": "1", "net/bridge/bridge-nf-call-iptables": "1", "net/bridge/bridge-nf-call-ip6tables": "1"}
}

// SetSysctls sets what is not set, remembers what was, and makes it last where /etc/sysctl.d is read at boot.
func SetSysctls(ctx context.Context, s *State) ([]string, error) {
	if _, err := os.Stat("/proc/sys/net/bridge"); err != nil {
		if err := run(ctx, "modprobe", "br_netfilter"); err != nil {
			return nil, fmt.Errorf("the kernel module br_netfilter is needed for pods of one node to reach each other by Services: %w", err)
		}
	}
	var did []string
	var text strings.Builder
	for name, want := range sysctls() {
		path := filepath.Join("/proc/sys", name)
		old, err := os.ReadFile(path)
		if err != nil {
			return did, err
		}
		key := strings.ReplaceAll(name, "/", ".")
		fmt.Fprintf(&text, "%s = %s\n", key, want)
		if strings.TrimSpace(string(old)) == want {
			continue
		}
		if s.Sysctls == nil {
			s.Sysctls = map[string]string{}
		}
		s.Sysctls[name] = strings.TrimSpace(string(old))
		if err := os.WriteFile(path, []byte(want), 0); err != nil {
			return did, fmt.Errorf("sysctl %s=%s: %w", key, want, err)
		}
		did = append(did, key+"="+want)
	}
	if Systemd() {
		file := "/etc/sysctl.d/99-flagship.conf"
		s.Own(file)
		s.Own("/etc/modules-load.d/flagship.conf")
		if err := WriteFile("/etc/modules-load.d/flagship.conf", []byte("br_netfilter\n"), 0o644); err != nil {
			return did, err
		}
		return did, WriteFile(file, []byte(text.String()), 0o644)
	}
	return did, nil
}

// ResolverAnswers says whether a name server of resolv.conf answers a question within a second.
func ResolverAnswers(ctx context.Context, path string) bool {
	data, err := os.ReadFile(path)
	if err != nil {
		return false
	}
	answers := make(chan bool)
	asked := 0
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	for line := range strings.Lines(string(data)) {
		f := strings.Fields(line)
		if len(f) < 2 || f[0] != "nameserver" {
			continue
		}
		asked++
		go func() { answers <- ask(ctx, f[1]) }()
	}
	answered := false
	for range asked {
		answered = <-answers || answered
	}
	return answered
}

func ask(ctx context.Context, server string) bool {
	var d net.Dialer
	c, err := d.DialContext(ctx, "udp", net.JoinHostPort(server, "53"))
	if err != nil {
		return false
	}
	defer func() { _ = c.Close() }()
	deadline, _ := ctx.Deadline()
	_ = c.SetDeadline(deadline)
	var id [2]byte
	_, _ = rand.Read(id[:])
	name := dnsmessage.MustNewName(".")
	q := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: uint16(id[0])<<8 | uint16(id[1]), RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: name, Type: dnsmessage.TypeNS, Class: dnsmessage.ClassINET}},
	}
	packet, err := q.Pack()
	if err != nil {
		return false
	}
	if _, err := c.Write(packet); err != nil {
		return false
	}
	n, err := c.Read(make([]byte, 1500))
	return err == nil && n >= 12
}
