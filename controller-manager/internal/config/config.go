package config

import (
	"fmt"
	"io"
	"net/netip"
	"time"

	"flagship/internal/leader"
	"flagship/internal/logging"
	"flagship/internal/options"
	"flagship/internal/serving"
)

// Binary is the component's name.
const Binary = "kube-controller-manager"

// Port is the secure port.
const Port = 10257

// KeyPair names the PEM files of a CA.
type KeyPair struct{ Cert, Key string }

// Signing is what the certificate signers use.
type Signing struct {
	Default KeyPair
	// BySigner are the pairs of single signers; where any is set, Default signs nothing.
	BySigner map[string]*KeyPair
	Duration time.Duration
}

// Workers is how many keys each controller syncs at a time.
type Workers struct {
	Deployment, ReplicaSet, ReplicationController, DaemonSet, StatefulSet, Job, CronJob, Endpoints, Slices, Mirroring int32
	GC, Namespace, Quota, AccountTokens, TTLAfterFinished, HPA, Disruption, EphemeralVolume                           int32
}

// Node is the node controllers' configuration.
type Node struct {
	MonitorPeriod, GracePeriod, StartupGracePeriod time.Duration
	EvictionRate, SecondaryEvictionRate            float32
	UnhealthyThreshold                             float32
	LargeCluster                                   int32
	AllocateCIDRs                                  bool
	ClusterCIDRs, ServiceCIDRs                     []netip.Prefix
	MaskSize, MaskSizeV4, MaskSizeV6               int32
}

// Autoscale is the HorizontalPodAutoscaler's configuration.
type Autoscale struct {
	SyncPeriod, DownscaleStabilization, CPUInitialization, InitialReadiness time.Duration
	Tolerance                                                               float64
}

// Config is everything the controller manager is told at its start.
type Config struct {
	Set         *options.Set
	Kubeconfig  string
	Master      string
	ContentType string
	QPS         float32
	Burst       int32
	Serving     serving.Options
	Leader      leader.Config
	Logging     logging.Config
	Profiling   bool

	Controllers   []string
	UseAccounts   bool
	ClusterName   string
	Workers       Workers
	Node          Node
	Signing       Signing
	RootCAFile    string
	AccountKey    string
	TerminatedPod int32
	EnableGC      bool

	MaxEndpoints          int32
	EndpointsBatch        time.Duration
	SlicesBatch           time.Duration
	MirroringBatch        time.Duration
	MirroringMaxEndpoints int32
	QuotaPeriod           time.Duration
	NamespacePeriod       time.Duration
	BinderPeriod          time.Duration
	Autoscale             Autoscale

	clusterCIDR, serviceCIDR string
}

// Load reads the arguments. An error is one line that names the flag.
func Load(args []string, out io.Writer) (*Config, error) {
	c := &Config{
		Set: options.New(Binary), Serving: serving.DefaultOptions(Port), Leader: leader.Defaults(Binary), QPS: 20, Burst: 30,
		Signing: Signing{Duration: 365 * 24 * time.Hour, BySigner: map[string]*KeyPair{
			"kubernetes.io/kubelet-serving":               {},
			"kubernetes.io/kube-apiserver-client-kubelet": {},
			"kubernetes.io/kube-apiserver-client":         {},
			"kubernetes.io/legacy-unknown":                {},
		}},
	}
	c.Serving.TolerateLookupFailure = true
	c.addFlags()
	c.addControllerFlags()
	c.inertFlags()
	if err := c.Set.Parse(args, out); err != nil {
		return nil, err
	}
	return c, c.validate()
}

func (c *Config) addFlags() {
	fs := c.Set.Flags()
	fs.StringVar(&c.Kubeconfig, "kubeconfig", "", "kubeconfig of the API server")
	fs.StringVar(&c.Master, "master", "", "address of the API server, in place of the kubeconfig's")
	fs.StringVar(&c.ContentType, "kube-api-content-type", "application/vnd.kubernetes.protobuf", "media type of requests")
	fs.Float32Var(&c.QPS, "kube-api-qps", c.QPS, "requests per second of each controller")
	fs.Int32Var(&c.Burst, "kube-api-burst", c.Burst, "burst of requests of each controller")
	fs.BoolVar(&c.Profiling, "profiling", true, "serve /debug/pprof")
	fs.StringSliceVar(&c.Controllers, "controllers", []string{"*"}, "controllers to run: '*' is all that are on by default, 'foo' turns foo on, '-foo' turns it off")
	fs.BoolVar(&c.UseAccounts, "use-service-account-credentials", false, "let each controller use the service account of its own in kube-system")
	fs.StringVar(&c.ClusterName, "cluster-name", "kubernetes", "name of the cluster")
	c.Serving.AddFlags(fs)
	leader.AddFlags(fs, &c.Leader)
	logging.AddFlags(fs, &c.Logging)
}

func (c *Config) addControllerFlags() {
	fs := c.Set.Flags()
	for _, w := range []struct {
		at   *int32
		name string
		n    int32
	}{
		{&c.Workers.Deployment, "concurrent-deployment-syncs", 5},
		{&c.Workers.ReplicaSet, "concurrent-replicaset-syncs", 5},
		{&c.Workers.ReplicationController, "concurrent-rc-syncs", 5},
		{&c.Workers.DaemonSet, "concurrent-daemonset-syncs", 2},
		{&c.Workers.StatefulSet, "concurrent-statefulset-syncs", 5},
		{&c.Workers.Job, "concurrent-job-syncs", 5},
		{&c.Workers.CronJob, "concurrent-cron-job-syncs", 5},
		{&c.Workers.Endpoints, "concurrent-endpoint-syncs", 5},
		{&c.Workers.Slices, "concurrent-service-endpoint-syncs", 5},
		{&c.Workers.Mirroring, "mirroring-concurrent-service-endpoint-syncs", 5},
		{&c.Workers.GC, "concurrent-gc-syncs", 20},
		{&c.Workers.Namespace, "concurrent-namespace-syncs", 10},
		{&c.Workers.Quota, "concurrent-resource-quota-syncs", 5},
		{&c.Workers.AccountTokens, "concurrent-serviceaccount-token-syncs", 5},
		{&c.Workers.TTLAfterFinished, "concurrent-ttl-after-finished-syncs", 5},
		{&c.Workers.HPA, "concurrent-horizontal-pod-autoscaler-syncs", 5},
		{&c.Workers.Disruption, "concurrent-disruption-syncs", 5},
		{&c.Workers.EphemeralVolume, "concurrent-ephemeralvolume-syncs", 5},
	} {
		fs.Int32Var(w.at, w.name, w.n, "how many keys the controller syncs at a time")
	}
	fs.DurationVar(&c.Node.MonitorPeriod, "node-monitor-period", 5*time.Second, "how often the health of nodes is looked at")
	fs.DurationVar(&c.Node.GracePeriod, "node-monitor-grace-period", 40*time.Second, "how long a running node may be silent before it is unhealthy")
	fs.DurationVar(&c.Node.StartupGracePeriod, "node-startup-grace-period", time.Minute, "how long a starting node may be silent before it is unhealthy")
	fs.Float32Var(&c.Node.EvictionRate, "node-eviction-rate", 0.1, "nodes per second that are tainted NoExecute in a healthy zone")
	fs.Float32Var(&c.Node.SecondaryEvictionRate, "secondary-node-eviction-rate", 0.01, "nodes per second that are tainted NoExecute in an unhealthy zone")
	fs.Float32Var(&c.Node.UnhealthyThreshold, "unhealthy-zone-threshold", 0.55, "fraction of nodes (three at least) that are not ready in an unhealthy zone")
	fs.Int32Var(&c.Node.LargeCluster, "large-cluster-size-threshold", 50, "number of nodes in a zone up to which an unhealthy zone is not evicted from")
	fs.BoolVar(&c.Node.AllocateCIDRs, "allocate-node-cidrs", false, "give each node a range of pod addresses out of --cluster-cidr")
	fs.StringVar(&c.clusterCIDR, "cluster-cidr", "", "ranges of pod addresses, one per family, separated by commas")
	fs.StringVar(&c.serviceCIDR, "service-cluster-ip-range", "", "ranges of Service addresses, which no node gets")
	fs.Int32Var(&c.Node.MaskSize, "node-cidr-mask-size", 0, "mask size of a node's range; 24 for IPv4, 64 for IPv6 by default")
	fs.Int32Var(&c.Node.MaskSizeV4, "node-cidr-mask-size-ipv4", 0, "mask size of a node's IPv4 range in a dual-stack cluster; 24 by default")
	fs.Int32Var(&c.Node.MaskSizeV6, "node-cidr-mask-size-ipv6", 0, "mask size of a node's IPv6 range in a dual-stack cluster; 64 by default")
	fs.Int32Var(&c.TerminatedPod, "terminated-pod-gc-threshold", 12500, "how many pods at their end are kept; none are deleted where it is 0 or less")
	fs.BoolVar(&c.EnableGC, "enable-garbage-collector", true, "delete objects whose owners are gone")
	fs.StringVar(&c.RootCAFile, "root-ca-file", "", "PEM file with the CA that pods trust the API server by")
	fs.StringVar(&c.AccountKey, "service-account-private-key-file", "", "PEM file with the key that signs service account tokens in Secrets")
	fs.StringVar(&c.Signing.Default.Cert, "cluster-signing-cert-file", "", "PEM file with the CA that signs certificates")
	fs.StringVar(&c.Signing.Default.Key, "cluster-signing-key-file", "", "PEM file with that CA's key")
	fs.DurationVar(&c.Signing.Duration, "cluster-signing-duration", c.Signing.Duration, "longest validity of a signed certificate")
	for flag, signer := range map[string]string{
		"kubelet-serving": "kubernetes.io/kubelet-serving", "kubelet-client": "kubernetes.io/kube-apiserver-client-kubelet",
		"kube-apiserver-client": "kubernetes.io/kube-apiserver-client", "legacy-unknown": "kubernetes.io/legacy-unknown",
	} {
		fs.StringVar(&c.Signing.BySigner[signer].Cert, "cluster-signing-"+flag+"-cert-file", "", "PEM file with the CA of "+signer)
		fs.StringVar(&c.Signing.BySigner[signer].Key, "cluster-signing-"+flag+"-key-file", "", "PEM file with the CA's key of "+signer)
	}
	fs.Int32Var(&c.MaxEndpoints, "max-endpoints-per-slice", 100, "most endpoints in one EndpointSlice")
	fs.DurationVar(&c.EndpointsBatch, "endpoint-updates-batch-period", 0, "how long changes of pods are gathered before Endpoints are written")
	fs.DurationVar(&c.SlicesBatch, "endpointslice-updates-batch-period", 0, "how long changes of pods are gathered before EndpointSlices are written")
	fs.DurationVar(&c.MirroringBatch, "mirroring-endpointslice-updates-batch-period", 0, "how long changes of Endpoints are gathered before they are mirrored")
	fs.Int32Var(&c.MirroringMaxEndpoints, "mirroring-max-endpoints-per-subset", 1000, "most addresses that are mirrored of one subset")
	fs.DurationVar(&c.QuotaPeriod, "resource-quota-sync-period", 5*time.Minute, "how often quota usage is counted anew")
	fs.DurationVar(&c.NamespacePeriod, "namespace-sync-period", 5*time.Minute, "how often every namespace is looked at")
	fs.DurationVar(&c.BinderPeriod, "pvclaimbinder-sync-period", 15*time.Second, "how often volumes and claims are looked at")
	fs.DurationVar(&c.Autoscale.SyncPeriod, "horizontal-pod-autoscaler-sync-period", 15*time.Second, "how often autoscalers are looked at")
	fs.DurationVar(&c.Autoscale.DownscaleStabilization, "horizontal-pod-autoscaler-downscale-stabilization", 5*time.Minute, "how long the highest recommendation holds")
	fs.DurationVar(&c.Autoscale.CPUInitialization, "horizontal-pod-autoscaler-cpu-initialization-period", 5*time.Minute, "how long after its start a pod's CPU may be left out")
	fs.DurationVar(&c.Autoscale.InitialReadiness, "horizontal-pod-autoscaler-initial-readiness-delay", 30*time.Second, "how long after its start a pod's readiness counts as first")
	fs.Float64Var(&c.Autoscale.Tolerance, "horizontal-pod-autoscaler-tolerance", 0.1, "least change from 1.0 that scales")
}

func (c *Config) validate() error {
	var err error
	if c.Node.ClusterCIDRs, err = prefixes("--cluster-cidr", c.clusterCIDR); err != nil {
		return err
	}
	if c.Node.ServiceCIDRs, err = prefixes("--service-cluster-ip-range", c.serviceCIDR); err != nil {
		return err
	}
	if err := c.node(); err != nil {
		return err
	}
	for _, name := range c.Controllers {
		if err := validController(name); err != nil {
			return err
		}
	}
	if (c.Signing.Default.Cert == "") != (c.Signing.Default.Key == "") {
		return fmt.Errorf("--cluster-signing-cert-file and --cluster-signing-key-file go together: give both or none")
	}
	for signer, p := range c.Signing.BySigner {
		if (p.Cert == "") != (p.Key == "") {
			return fmt.Errorf("--cluster-signing-*: signer %s needs both a certificate and a key", signer)
		}
		if p.Cert != "" && c.Signing.Default.Cert != "" {
			return fmt.Errorf("--cluster-signing-cert-file: cannot specify default and per controller certs at the same time")
		}
	}
	if c.MaxEndpoints < 1 || c.MaxEndpoints > 1000 {
		return fmt.Errorf("--max-endpoints-per-slice: %d is not in 1 to 1000", c.MaxEndpoints)
	}
	if err := c.Leader.Validate(); err != nil {
		return err
	}
	return c.Serving.Validate()
}
