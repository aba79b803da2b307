package config

import (
	"errors"
	"fmt"
	"io"
	"time"

	componentconfig "k8s.io/component-base/config/v1alpha1"
	schedconfig "k8s.io/kube-scheduler/config/v1"

	"flagship/internal/leader"
	"flagship/internal/logging"
	"flagship/internal/options"
	"flagship/internal/serving"
)

// Binary is the component's name.
const Binary = "kube-scheduler"

// Port is the secure port.
const Port = 10259

// Config is everything the scheduler is told at its start.
type Config struct {
	Set     *options.Set
	File    string
	WriteTo string
	Master  string
	Serving serving.Options
	Leader  leader.Config
	Logging logging.Config
	// Component is the file's format with flags applied.
	Component schedconfig.KubeSchedulerConfiguration
	Profiles  []Profile
	// MaxUnschedulable is how long a pod may wait for an event before it is tried again all the same.
	MaxUnschedulable time.Duration
}

// flags that exist for the days before configuration files, and that lose against one.
type deprecated struct {
	kubeconfig, contentType string
	qps                     float32
	burst                   int32
	profiling, contention   bool
}

// Load reads arguments and file. An error is one line that names the flag or key.
func Load(args []string, out io.Writer) (*Config, error) {
	c := &Config{
		Set: options.New(Binary), Serving: serving.DefaultOptions(Port), Leader: leader.Defaults(Binary),
		Component: defaults(), MaxUnschedulable: 5 * time.Minute,
	}
	c.Serving.TolerateLookupFailure = true
	var old deprecated
	c.addFlags(&old)
	if err := c.Set.Document(&c.Component); err != nil {
		return nil, err
	}
	if err := c.Set.Parse(args, out); err != nil {
		return nil, err
	}
	if c.File != "" {
		if err := c.loadFile(&old); err != nil {
			return nil, err
		}
	} else {
		c.applyDeprecated(&old)
	}
	fillOptional(&c.Component)
	c.storeLeader()
	if err := c.validate(); err != nil {
		return nil, err
	}
	var err error
	c.Profiles, err = resolveProfiles(&c.Component)
	return c, err
}

func (c *Config) addFlags(old *deprecated) {
	fs := c.Set.Flags()
	fs.StringVar(&c.File, "config", "", "path of a KubeSchedulerConfiguration file")
	fs.StringVar(&c.WriteTo, "write-config-to", "", "write the effective configuration to this file and exit")
	fs.StringVar(&c.Master, "master", "", "address of the API server, in place of the kubeconfig's")
	fs.StringVar(&old.kubeconfig, "kubeconfig", "", "kubeconfig of the API server; a file given by --config comes first")
	fs.StringVar(&old.contentType, "kube-api-content-type", "application/vnd.kubernetes.protobuf", "media type of requests; ignored with --config")
	fs.Float32Var(&old.qps, "kube-api-qps", 50, "requests per second; ignored with --config")
	fs.Int32Var(&old.burst, "kube-api-burst", 100, "burst of requests; ignored with --config")
	fs.BoolVar(&old.profiling, "profiling", true, "serve /debug/pprof; ignored with --config")
	fs.BoolVar(&old.contention, "contention-profiling", true, "profile blocking too; ignored with --config")
	fs.DurationVar(&c.MaxUnschedulable, "pod-max-in-unschedulable-pods-duration", c.MaxUnschedulable, "how long a pod waits for a change before it is tried again all the same")
	c.Serving.AddFlags(fs)
	leader.AddFlags(fs, &c.Leader)
	logging.AddFlags(fs, &c.Logging)
	for flag, path := range map[string]string{
		"kubeconfig": "clientConnection.kubeconfig", "kube-api-content-type": "clientConnection.contentType",
		"kube-api-qps": "clientConnection.qps", "kube-api-burst": "clientConnection.burst",
		"profiling": "enableProfiling", "contention-profiling": "enableContentionProfiling",
		"leader-elect": "leaderElection.leaderElect", "leader-elect-lease-duration": "leaderElection.leaseDuration",
		"leader-elect-renew-deadline": "leaderElection.renewDeadline", "leader-elect-retry-period": "leaderElection.retryPeriod",
		"leader-elect-resource-name": "leaderElection.resourceName", "leader-elect-resource-namespace": "leaderElection.resourceNamespace",
	} {
		c.Set.Bind(flag, path)
	}
	c.inertFlags()
}

func (c *Config) inertFlags() {
	const gates = "every feature of this build is either on or not there"
	for _, f := range []struct {
		name string
		kind options.InertKind
		why  string
	}{
		{"feature-gates", options.InertString, gates},
		{"emulated-version", options.InertString, gates},
		{"emulation-forward-compatible", options.InertBool, gates},
		{"min-compatibility-version", options.InertString, gates},
		{"runtime-config-emulation-forward-compatible", options.InertBool, gates},
		{"leader-elect-resource-lock", options.InertString, "only leases are used"},
		{"authentication-token-webhook-cache-ttl", options.InertString, "the time is fixed"},
		{"authorization-webhook-cache-authorized-ttl", options.InertString, "the time is fixed"},
		{"authorization-webhook-cache-unauthorized-ttl", options.InertString, "the time is fixed"},
		{"requestheader-allowed-names", options.InertString, "a front proxy is not trusted on this port"},
		{"requestheader-client-ca-file", options.InertString, "a front proxy is not trusted on this port"},
		{"requestheader-extra-headers-prefix", options.InertString, "a front proxy is not trusted on this port"},
		{"requestheader-group-headers", options.InertString, "a front proxy is not trusted on this port"},
		{"requestheader-uid-headers", options.InertString, "a front proxy is not trusted on this port"},
		{"requestheader-username-headers", options.InertString, "a front proxy is not trusted on this port"},
		{"http2-max-streams-per-connection", options.InertString, "250 streams are allowed"},
		{"permit-address-sharing", options.InertBool, "the port is not shared"},
		{"permit-port-sharing", options.InertBool, "the port is not shared"},
		{"disable-http2-serving", options.InertBool, "gRPC needs HTTP/2"},
		{"tls-sni-cert-key", options.InertString, "one certificate is served"},
		{"tls-curve-preferences", options.InertString, "Go's preferences are used"},
		{"allow-metric-labels", options.InertString, "every label value is served"},
		{"allow-metric-labels-manifest", options.InertString, "every label value is served"},
		{"disabled-metrics", options.InertString, "every metric is served"},
		{"show-hidden-metrics-for-version", options.InertString, "there are no hidden metrics"},
		{"log-flush-frequency", options.InertString, "log lines are not buffered"},
		{"log-json-info-buffer-size", options.InertString, "log lines are not buffered"},
		{"log-json-split-stream", options.InertBool, "all lines go to standard error"},
		{"log-text-info-buffer-size", options.InertString, "log lines are not buffered"},
		{"log-text-split-stream", options.InertBool, "all lines go to standard error"},
		{"vmodule", options.InertString, "levels are set by -v alone"},
	} {
		if c.Set.Flags().Lookup(f.name) == nil {
			c.Set.Inert(f.name, f.kind, f.why)
		}
	}
}

func (c *Config) loadFile(old *deprecated) error {
	if err := c.Set.LoadFile(c.File, &c.Component); err != nil {
		return err
	}
	want := schedconfig.SchemeGroupVersion.String()
	if c.Component.APIVersion != want || c.Component.Kind != "KubeSchedulerConfiguration" {
		return fmt.Errorf("read configuration %s: apiVersion and kind must be %s and KubeSchedulerConfiguration, not %q and %q",
			c.File, want, c.Component.APIVersion, c.Component.Kind)
	}
	if c.Component.ClientConnection.Kubeconfig == "" {
		c.Component.ClientConnection.Kubeconfig = old.kubeconfig
	}
	l := c.Component.LeaderElection
	if l.ResourceLock != "" && l.ResourceLock != "leases" {
		return fmt.Errorf("leaderElection.resourceLock: unsupported value %q: supported values: \"leases\"", l.ResourceLock)
	}
	c.Leader.Elect = l.LeaderElect == nil || *l.LeaderElect
	c.Leader.LeaseDuration, c.Leader.RenewDeadline, c.Leader.RetryPeriod = l.LeaseDuration.Duration, l.RenewDeadline.Duration, l.RetryPeriod.Duration
	c.Leader.Namespace, c.Leader.Name = l.ResourceNamespace, l.ResourceName
	return c.Set.ReapplyFlags()
}

func (c *Config) applyDeprecated(old *deprecated) {
	cc := &c.Component.ClientConnection
	cc.Kubeconfig, cc.ContentType, cc.QPS, cc.Burst = old.kubeconfig, old.contentType, old.qps, old.burst
	c.Component.EnableProfiling, c.Component.EnableContentionProfiling = &old.profiling, &old.contention
}

// storeLeader writes the election's effective parameters back, so that /configz shows them.
func (c *Config) storeLeader() {
	l := &c.Component.LeaderElection
	l.LeaderElect = &c.Leader.Elect
	l.LeaseDuration.Duration, l.RenewDeadline.Duration, l.RetryPeriod.Duration = c.Leader.LeaseDuration, c.Leader.RenewDeadline, c.Leader.RetryPeriod
	l.ResourceNamespace, l.ResourceName = c.Leader.Namespace, c.Leader.Name
}

func (c *Config) validate() error {
	k := &c.Component
	switch {
	case *k.Parallelism <= 0:
		return fmt.Errorf("parallelism: invalid value %d: should be an integer value greater than zero", *k.Parallelism)
	case *k.PercentageOfNodesToScore < 0 || *k.PercentageOfNodesToScore > 100:
		return fmt.Errorf("percentageOfNodesToScore: invalid value %d: not in valid range [0-100]", *k.PercentageOfNodesToScore)
	case *k.PodInitialBackoffSeconds <= 0:
		return fmt.Errorf("podInitialBackoffSeconds: invalid value %d: must be greater than 0", *k.PodInitialBackoffSeconds)
	case *k.PodMaxBackoffSeconds < *k.PodInitialBackoffSeconds:
		return fmt.Errorf("podMaxBackoffSeconds: invalid value %d: must be greater than or equal to PodInitialBackoffSeconds", *k.PodMaxBackoffSeconds)
	case len(k.Extenders) > 0:
		return errors.New("extenders: HTTP extenders are not supported by this scheduler")
	}
	if err := c.Leader.Validate(); err != nil {
		return err
	}
	return c.Serving.Validate()
}

func ptr[T any](v T) *T { return &v }

func defaults() schedconfig.KubeSchedulerConfiguration {
	k := schedconfig.KubeSchedulerConfiguration{
		Parallelism: ptr(int32(16)), PercentageOfNodesToScore: ptr(int32(0)),
		PodInitialBackoffSeconds: ptr(int64(1)), PodMaxBackoffSeconds: ptr(int64(10)),
	}
	k.APIVersion, k.Kind = schedconfig.SchemeGroupVersion.String(), "KubeSchedulerConfiguration"
	componentconfig.RecommendedDefaultLeaderElectionConfiguration(&k.LeaderElection)
	k.LeaderElection.ResourceLock = "leases"
	k.LeaderElection.ResourceNamespace = schedconfig.SchedulerDefaultLockObjectNamespace
	k.LeaderElection.ResourceName = schedconfig.SchedulerDefaultLockObjectName
	k.ClientConnection.ContentType = "application/vnd.kubernetes.protobuf"
	k.ClientConnection.QPS, k.ClientConnection.Burst = 50, 100
	k.EnableProfiling, k.EnableContentionProfiling = ptr(true), ptr(true)
	return k
}

// fillOptional restores defaults that a file has set to null.
func fillOptional(k *schedconfig.KubeSchedulerConfiguration) {
	d := defaults()
	fill(&k.Parallelism, d.Parallelism)
	fill(&k.PercentageOfNodesToScore, d.PercentageOfNodesToScore)
	fill(&k.PodInitialBackoffSeconds, d.PodInitialBackoffSeconds)
	fill(&k.PodMaxBackoffSeconds, d.PodMaxBackoffSeconds)
	fill(&k.EnableProfiling, d.EnableProfiling)
	fill(&k.EnableContentionProfiling, d.EnableContentionProfiling)
	if len(k.Profiles) == 0 {
		k.Profiles = []schedconfig.KubeSchedulerProfile{{}}
	}
	if len(k.Profiles) == 1 && k.Profiles[0].SchedulerName == nil {
		k.Profiles[0].SchedulerName = ptr("default-scheduler")
	}
}

func fill[T any](at **T, value *T) {
	if *at == nil {
		*at = value
	}
}
