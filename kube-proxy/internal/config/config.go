package config

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	proxyconfig "k8s.io/kube-proxy/config/v1alpha1"

	"flagship/internal/logging"
	"flagship/internal/options"
	"flagship/internal/serving"
)

// Binary is the component's name.
const Binary = "kube-proxy"

// The ports. SecurePort is ours: upstream's kube-proxy has none. 10261 is free of other components' defaults.
const (
	HealthzPort = 10256
	MetricsPort = 10249
	SecurePort  = 10261
)

// PodNetworkVariable is the environment variable that stands for --pod-network.
const PodNetworkVariable = "FLAGSHIP_POD_NETWORK"

// The backends.
const (
	NFTables = "nftables"
	IPTables = "iptables"
)

// The modes of detectLocalMode.
const (
	LocalModeClusterCIDR         proxyconfig.LocalMode = "ClusterCIDR"
	LocalModeNodeCIDR            proxyconfig.LocalMode = "NodeCIDR"
	LocalModeBridgeInterface     proxyconfig.LocalMode = "BridgeInterface"
	LocalModeInterfaceNamePrefix proxyconfig.LocalMode = "InterfaceNamePrefix"
)

// Config is everything the proxy is told at its start.
type Config struct {
	Set      *options.Set
	File     string
	WriteTo  string
	Master   string
	Cleanup  bool
	InitOnly bool
	Serving  serving.Options
	Logging  logging.Config
	// Component is the file's format with flags applied.
	Component proxyconfig.KubeProxyConfiguration

	Mode     string
	NodeName string
	// SyncPeriod is the longest and MinSyncPeriod the shortest time between two writes of the rules.
	SyncPeriod, MinSyncPeriod time.Duration
	MasqueradeAll             bool
	MasqueradeMark            uint32
	LocalMode                 proxyconfig.LocalMode
	ClusterCIDRs              []netip.Prefix
	// NodePorts are the ranges of the addresses that serve node ports; nil with PrimaryOnly false means all.
	NodePorts   []netip.Prefix
	PrimaryOnly bool
	// PodNetwork is whether this process routes between the nodes' pods; upstream leaves that to others, and so does not know the flag:
	// manifests set PodNetworkVariable.
	PodNetwork bool
}

// separate are flags that do not fit a field of the file's format one to one.
type separate struct {
	mode, localMode          string
	healthzPort, metricsPort int
	masqueradeAll            bool
}

// Load reads arguments and file. An error is one line that names the flag or key.
func Load(args []string, out io.Writer) (*Config, error) {
	c := &Config{Set: options.New(Binary), Serving: serving.DefaultOptions(SecurePort), Component: defaults()}
	c.Serving.TolerateLookupFailure = true
	s := separate{healthzPort: HealthzPort, metricsPort: MetricsPort}
	c.addFlags(&s)
	if err := c.Set.Document(&c.Component); err != nil {
		return nil, err
	}
	if err := c.Set.Parse(args, out); err != nil {
		return nil, err
	}
	if c.File != "" {
		if err := c.loadFile(); err != nil {
			return nil, err
		}
	}
	c.merge(&s)
	return c, c.freeze()
}

func (c *Config) loadFile() error {
	if err := c.Set.LoadFile(c.File, &c.Component); err != nil {
		return err
	}
	want := proxyconfig.SchemeGroupVersion.String()
	if c.Component.APIVersion != want || c.Component.Kind != "KubeProxyConfiguration" {
		return fmt.Errorf("read configuration %s: apiVersion and kind must be %s and KubeProxyConfiguration, not %q and %q",
			c.File, want, c.Component.APIVersion, c.Component.Kind)
	}
	fillEmpty(&c.Component)
	return c.Set.ReapplyFlags()
}

func (c *Config) addFlags(s *separate) {
	fs, k := c.Set.Flags(), &c.Component
	bound := func(path string, f *pflag.Flag) { c.Set.Bind(f.Name, path) }
	str := func(at *string, name, path, usage string) {
		fs.StringVar(at, name, *at, usage)
		bound(path, fs.Lookup(name))
	}
	num := func(at *int32, name, path, usage string) {
		fs.Int32Var(at, name, *at, usage)
		bound(path, fs.Lookup(name))
	}
	dur := func(at *metav1.Duration, name, path, usage string) {
		fs.DurationVar(&at.Duration, name, at.Duration, usage)
		bound(path, fs.Lookup(name))
	}
	flag := func(at *bool, name, path, usage string) {
		fs.BoolVar(at, name, *at, usage)
		bound(path, fs.Lookup(name))
	}
	fs.StringVar(&c.File, "config", "", "path of a KubeProxyConfiguration file")
	fs.StringVar(&c.WriteTo, "write-config-to", "", "write the effective configuration to this file and exit")
	fs.StringVar(&c.Master, "master", "", "address of the API server, in place of the kubeconfig's")
	fs.BoolVar(&c.Cleanup, "cleanup", false, "remove all rules of the proxy and exit")
	fs.BoolVar(&c.PodNetwork, "pod-network", false, "route to the pods of other nodes, which must be on one network with this one, and masquerade what pods send out of --cluster-cidr; for clusters without a network plugin of their own")
	c.Set.Environment("pod-network", PodNetworkVariable)
	fs.BoolVar(&c.InitOnly, "init-only", false, "do what needs full privileges (sysctls) and exit")
	str(&k.ClientConnection.Kubeconfig, "kubeconfig", "clientConnection.kubeconfig", "kubeconfig of the API server")
	str(&k.ClientConnection.ContentType, "kube-api-content-type", "clientConnection.contentType", "media type of requests")
	num(&k.ClientConnection.Burst, "kube-api-burst", "clientConnection.burst", "burst of requests")
	fs.Float32Var(&k.ClientConnection.QPS, "kube-api-qps", k.ClientConnection.QPS, "requests per second")
	str(&k.HostnameOverride, "hostname-override", "hostnameOverride", "the node's name, in place of the host's")
	str(&k.BindAddress, "bind-address", "bindAddress", "the node's primary address, or 0.0.0.0 or :: for all of one family")
	str(&k.HealthzBindAddress, "healthz-bind-address", "healthzBindAddress", "address and port of /healthz and /livez")
	str(&k.MetricsBindAddress, "metrics-bind-address", "metricsBindAddress", "address and port of /metrics and /proxyMode; :0 serves nothing")
	fs.IntVar(&s.healthzPort, "healthz-port", s.healthzPort, "port of /healthz in place of the address's; 0 serves nothing")
	fs.IntVar(&s.metricsPort, "metrics-port", s.metricsPort, "port of /metrics in place of the address's; 0 serves nothing")
	flag(&k.BindAddressHardFail, "bind-address-hard-fail", "bindAddressHardFail", "end when an address cannot be had")
	flag(&k.EnableProfiling, "profiling", "enableProfiling", "serve /debug/pprof on the metrics address")
	fs.StringVar(&s.mode, "proxy-mode", "", "nftables (the default) or iptables")
	c.Set.Bind("proxy-mode", "mode")
	num(k.IPTables.MasqueradeBit, "iptables-masquerade-bit", "iptables.masqueradeBit", "bit of the firewall mark of packets to masquerade, 0 to 31")
	fs.BoolVar(&s.masqueradeAll, "masquerade-all", false, "masquerade all traffic to services")
	flag(k.IPTables.LocalhostNodePorts, "iptables-localhost-nodeports", "iptables.localhostNodePorts", "serve node ports on 127.0.0.1 with iptables")
	dur(&k.IPTables.SyncPeriod, "iptables-sync-period", "iptables.syncPeriod", "longest time between two writes of the rules")
	dur(&k.IPTables.MinSyncPeriod, "iptables-min-sync-period", "iptables.minSyncPeriod", "shortest time between two writes of the rules")
	fs.StringVar(&s.localMode, "detect-local-mode", "", "how traffic of this cluster's pods is told: ClusterCIDR, NodeCIDR, BridgeInterface or InterfaceNamePrefix")
	c.Set.Bind("detect-local-mode", "detectLocalMode")
	str(&k.DetectLocal.BridgeInterface, "pod-bridge-interface", "detectLocal.bridgeInterface", "bridge of the pods, for BridgeInterface")
	str(&k.DetectLocal.InterfaceNamePrefix, "pod-interface-name-prefix", "detectLocal.interfaceNamePrefix", "prefix of the pods' interfaces, for InterfaceNamePrefix")
	str(&k.ClusterCIDR, "cluster-cidr", "clusterCIDR", "ranges of the pods' addresses, by commas, for ClusterCIDR")
	fs.StringSliceVar(&k.NodePortAddresses, "nodeport-addresses", nil, "ranges of the addresses that serve node ports, or primary")
	num(k.OOMScoreAdj, "oom-score-adj", "oomScoreAdj", "oom_score_adj of the process, -1000 to 1000")
	num(k.Conntrack.MaxPerCore, "conntrack-max-per-core", "conntrack.maxPerCore", "connections to track per CPU core; 0 leaves the limit as it is")
	num(k.Conntrack.Min, "conntrack-min", "conntrack.min", "least number of connections to track")
	dur(k.Conntrack.TCPEstablishedTimeout, "conntrack-tcp-timeout-established", "conntrack.tcpEstablishedTimeout", "idle time of established TCP connections; 0 leaves it as it is")
	dur(k.Conntrack.TCPCloseWaitTimeout, "conntrack-tcp-timeout-close-wait", "conntrack.tcpCloseWaitTimeout", "time of TCP connections in CLOSE_WAIT; 0 leaves it as it is")
	flag(&k.Conntrack.TCPBeLiberal, "conntrack-tcp-be-liberal", "conntrack.tcpBeLiberal", "track packets outside the TCP window too")
	dur(&k.Conntrack.UDPTimeout, "conntrack-udp-timeout", "conntrack.udpTimeout", "idle time of UDP flows; 0 leaves it as it is")
	dur(&k.Conntrack.UDPStreamTimeout, "conntrack-udp-timeout-stream", "conntrack.udpStreamTimeout", "idle time of two-way UDP flows; 0 leaves it as it is")
	dur(&k.ConfigSyncPeriod, "config-sync-period", "configSyncPeriod", "how often everything that is known is looked at again")
	logging.AddFlags(fs, &c.Logging)
	c.addServingFlags()
	c.addInert()
}

// addServingFlags adds the secure port's flags; its address has a name of its own, since --bind-address means the node's.
func (c *Config) addServingFlags() {
	own := pflag.NewFlagSet("", pflag.ContinueOnError)
	c.Serving.AddFlags(own)
	own.VisitAll(func(f *pflag.Flag) {
		if f.Name == "bind-address" {
			f.Name = "secure-bind-address"
		}
		if c.Set.Flags().Lookup(f.Name) == nil {
			c.Set.Flags().AddFlag(f)
		}
	})
}

func (c *Config) addInert() {
	const ipvs, logs = "there is no ipvs mode", "log lines are not buffered"
	for name, why := range map[string]string{
		"feature-gates": "every feature of this build is either on or not there", "show-hidden-metrics-for-version": "there are no hidden metrics",
		"ipvs-sync-period": ipvs, "ipvs-min-sync-period": ipvs, "ipvs-scheduler": ipvs, "ipvs-exclude-cidrs": ipvs,
		"ipvs-tcp-timeout": ipvs, "ipvs-tcpfin-timeout": ipvs, "ipvs-udp-timeout": ipvs,
		"log-flush-frequency": logs, "log-json-info-buffer-size": logs, "log-text-info-buffer-size": logs,
		"vmodule": "levels are set by -v alone", "platform-type": "only Linux is supported",
	} {
		if c.Set.Flags().Lookup(name) == nil {
			c.Set.Inert(name, options.InertString, why)
		}
	}
	for name, why := range map[string]string{"ipvs-strict-arp": ipvs, "log-json-split-stream": logs, "log-text-split-stream": logs} {
		if c.Set.Flags().Lookup(name) == nil {
			c.Set.Inert(name, options.InertBool, why)
		}
	}
}

// merge puts flags that have no field of their own into the file's format.
func (c *Config) merge(s *separate) {
	k, fs := &c.Component, c.Set.Flags()
	if s.mode != "" {
		k.Mode = proxyconfig.ProxyMode(s.mode)
	}
	if s.localMode != "" {
		k.DetectLocalMode = proxyconfig.LocalMode(s.localMode)
	}
	if s.masqueradeAll {
		k.IPTables.MasqueradeAll, k.NFTables.MasqueradeAll = true, true
	}
	k.HealthzBindAddress = address(k.HealthzBindAddress, "0.0.0.0", HealthzPort)
	k.MetricsBindAddress = address(k.MetricsBindAddress, "127.0.0.1", MetricsPort)
	port := func(flag string, at *string, n int) {
		if fs.Changed(flag) {
			host, _, _ := net.SplitHostPort(*at)
			*at = net.JoinHostPort(host, strconv.Itoa(n))
		}
	}
	port("healthz-port", &k.HealthzBindAddress, s.healthzPort)
	port("metrics-port", &k.MetricsBindAddress, s.metricsPort)
	if c.Serving.AuthenticationKubeconfig == "" {
		c.Serving.AuthenticationKubeconfig = k.ClientConnection.Kubeconfig
	}
	if c.Serving.AuthorizationKubeconfig == "" {
		c.Serving.AuthorizationKubeconfig = k.ClientConnection.Kubeconfig
	}
}

func address(have, host string, port int) string {
	if have == "" {
		return net.JoinHostPort(host, strconv.Itoa(port))
	}
	if _, _, err := net.SplitHostPort(have); err != nil {
		return net.JoinHostPort(strings.Trim(have, "[]"), strconv.Itoa(port))
	}
	return have
}

// freeze validates and computes what follows from the file's format.
func (c *Config) freeze() error {
	k := &c.Component
	if bit := *k.IPTables.MasqueradeBit; bit < 0 || bit > 31 {
		return fmt.Errorf("iptables.masqueradeBit: invalid value %d: must be within the range [0, 31]", bit)
	}
	if bit := *k.NFTables.MasqueradeBit; bit < 0 || bit > 31 {
		return fmt.Errorf("nftables.masqueradeBit: invalid value %d: must be within the range [0, 31]", bit)
	}
	switch k.Mode {
	case "", NFTables:
		c.Mode, c.MasqueradeAll = NFTables, k.NFTables.MasqueradeAll
		c.SyncPeriod, c.MinSyncPeriod = k.NFTables.SyncPeriod.Duration, k.NFTables.MinSyncPeriod.Duration
		c.MasqueradeMark = 1 << *k.NFTables.MasqueradeBit
	case IPTables:
		c.Mode, c.MasqueradeAll = IPTables, k.IPTables.MasqueradeAll
		c.SyncPeriod, c.MinSyncPeriod = k.IPTables.SyncPeriod.Duration, k.IPTables.MinSyncPeriod.Duration
		c.MasqueradeMark = 1 << *k.IPTables.MasqueradeBit
	default:
		return fmt.Errorf("mode: unsupported value %q: supported values: \"iptables\", \"nftables\"", k.Mode)
	}
	if c.SyncPeriod <= 0 || c.MinSyncPeriod < 0 || c.MinSyncPeriod > c.SyncPeriod {
		return fmt.Errorf("%s.minSyncPeriod: must be 0 to %s.syncPeriod, which must be greater than 0", c.Mode, c.Mode)
	}
	for path, a := range map[string]string{"healthzBindAddress": k.HealthzBindAddress, "metricsBindAddress": k.MetricsBindAddress} {
		if _, _, err := net.SplitHostPort(a); err != nil {
			return fmt.Errorf("%s: invalid value %q: %w", path, a, err)
		}
	}
	if err := c.freezeAddresses(); err != nil {
		return err
	}
	c.NodeName = strings.ToLower(strings.TrimSpace(k.HostnameOverride))
	if c.NodeName == "" {
		host, err := os.Hostname()
		if err != nil {
			return fmt.Errorf("read hostname: %w", err)
		}
		c.NodeName = strings.ToLower(host)
	}
	return c.Serving.Validate()
}

func (c *Config) freezeAddresses() error {
	k := &c.Component
	c.LocalMode = k.DetectLocalMode
	switch c.LocalMode {
	case "":
		c.LocalMode = LocalModeClusterCIDR
	case LocalModeClusterCIDR, LocalModeNodeCIDR:
	case LocalModeBridgeInterface:
		if k.DetectLocal.BridgeInterface == "" {
			return fmt.Errorf("detectLocal.bridgeInterface: required with detectLocalMode BridgeInterface")
		}
	case LocalModeInterfaceNamePrefix:
		if k.DetectLocal.InterfaceNamePrefix == "" {
			return fmt.Errorf("detectLocal.interfaceNamePrefix: required with detectLocalMode InterfaceNamePrefix")
		}
	default:
		return fmt.Errorf("detectLocalMode: unsupported value %q: supported values: \"BridgeInterface\", \"ClusterCIDR\", \"InterfaceNamePrefix\", \"NodeCIDR\"", c.LocalMode)
	}
	for _, s := range strings.Split(k.ClusterCIDR, ",") {
		if s = strings.TrimSpace(s); s == "" {
			continue
		}
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return fmt.Errorf("clusterCIDR: invalid value %q: %w", s, err)
		}
		c.ClusterCIDRs = append(c.ClusterCIDRs, p.Masked())
	}
	if c.Mode == NFTables && len(k.NodePortAddresses) == 0 {
		c.PrimaryOnly = true
	}
	for _, s := range k.NodePortAddresses {
		if s == "primary" {
			c.PrimaryOnly = true
			continue
		}
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return fmt.Errorf("nodePortAddresses: invalid value %q: %w", s, err)
		}
		c.NodePorts = append(c.NodePorts, p.Masked())
	}
	return nil
}

func to[T any](v T) *T { return &v }

func defaults() proxyconfig.KubeProxyConfiguration {
	k := proxyconfig.KubeProxyConfiguration{}
	k.APIVersion, k.Kind = proxyconfig.SchemeGroupVersion.String(), "KubeProxyConfiguration"
	fillEmpty(&k)
	return k
}

func fill[T any](at **T, v T) {
	if *at == nil {
		*at = to(v)
	}
}

func fillEmpty(k *proxyconfig.KubeProxyConfiguration) {
	period := func(at *metav1.Duration, d time.Duration) {
		if at.Duration == 0 {
			at.Duration = d
		}
	}
	if k.BindAddress == "" {
		k.BindAddress = "0.0.0.0"
	}
	fill(&k.OOMScoreAdj, -999)
	fill(&k.IPTables.MasqueradeBit, 14)
	fill(&k.NFTables.MasqueradeBit, 14)
	fill(&k.IPTables.LocalhostNodePorts, true)
	period(&k.IPTables.SyncPeriod, 30*time.Second)
	period(&k.IPTables.MinSyncPeriod, time.Second)
	period(&k.NFTables.SyncPeriod, 30*time.Second)
	period(&k.NFTables.MinSyncPeriod, time.Second)
	fill(&k.Conntrack.MaxPerCore, 32*1024)
	fill(&k.Conntrack.Min, 128*1024)
	fill(&k.Conntrack.TCPEstablishedTimeout, metav1.Duration{Duration: 24 * time.Hour})
	fill(&k.Conntrack.TCPCloseWaitTimeout, metav1.Duration{Duration: time.Hour})
	period(&k.ConfigSyncPeriod, 15*time.Minute)
	if k.ClientConnection.ContentType == "" {
		k.ClientConnection.ContentType = "application/vnd.kubernetes.protobuf"
	}
	if k.ClientConnection.QPS == 0 {
		k.ClientConnection.QPS = 5
	}
	if k.ClientConnection.Burst == 0 {
		k.ClientConnection.Burst = 10
	}
}
