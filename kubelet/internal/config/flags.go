package config

import (
	"flagship/internal/logging"
	"flagship/internal/options"
)

// flags registers upstream's flags: those that set a field of the configuration file, those of the kubelet itself, and
// those without effect here.
func (c *Config) flags() {
	fs, k := c.Set.Flags(), c.Kubelet
	str := func(p *string, name, path string) {
		fs.StringVar(p, name, *p, "sets "+path)
		c.Set.Bind(name, path)
	}
	boolean := func(p *bool, name, path string) {
		fs.BoolVar(p, name, *p, "sets "+path)
		c.Set.Bind(name, path)
	}
	number := func(p *int32, name, path string) {
		fs.Int32Var(p, name, *p, "sets "+path)
		c.Set.Bind(name, path)
	}
	list := func(p *[]string, name, path string) {
		fs.StringSliceVar(p, name, *p, "sets "+path)
		c.Set.Bind(name, path)
	}
	pairs := func(p *map[string]string, sep, name, path string) {
		fs.Var(&mapValue{p, sep}, name, "sets "+path)
		c.Set.Bind(name, path)
	}
	fs.StringVar(&c.Kubeconfig, "kubeconfig", "", "kubeconfig of the API server; without it only static pods run")
	fs.StringVar(&c.BootstrapKubeconfig, "bootstrap-kubeconfig", "", "kubeconfig used to ask for a client certificate when --kubeconfig does not exist yet")
	fs.StringVar(&c.File, "config", "", "configuration file (KubeletConfiguration v1beta1)")
	fs.StringVar(&c.Dir, "config-dir", "", "folder of *.conf drop-ins, read after --config in the order of their names")
	fs.StringVar(&c.NodeIP, "node-ip", "", "address of the node, or two of both families separated by a comma")
	fs.StringVar(&c.HostnameOverride, "hostname-override", "", "name of the node, in place of the machine's")
	fs.StringVar(&c.RootDir, "root-dir", c.RootDir, "folder of the kubelet's files")
	fs.StringVar(&c.CertDir, "cert-dir", "/var/lib/kubelet/pki", "folder of certificates")
	fs.Var(&mapValue{&c.NodeLabels, "="}, "node-labels", "labels of the node when it registers")
	fs.StringVar(&c.CloudProvider, "cloud-provider", "", `"external" leaves addresses to a cloud controller and taints the node until then`)
	fs.StringVar(&c.LockFile, "lock-file", "", "file that is locked while the kubelet runs")
	fs.BoolVar(&c.ExitOnLockContention, "exit-on-lock-contention", false, "exit when another process wants --lock-file")
	logging.AddFlags(fs, &c.Logging)

	str(&k.Address, "address", "address")
	number(&k.Port, "port", "port")
	number(&k.ReadOnlyPort, "read-only-port", "readOnlyPort")
	number(k.HealthzPort, "healthz-port", "healthzPort")
	str(&k.HealthzBindAddress, "healthz-bind-address", "healthzBindAddress")
	boolean(k.EnableServer, "enable-server", "enableServer")
	boolean(k.EnableDebuggingHandlers, "enable-debugging-handlers", "enableDebuggingHandlers")
	boolean(k.Authentication.Anonymous.Enabled, "anonymous-auth", "authentication.anonymous.enabled")
	boolean(k.Authentication.Webhook.Enabled, "authentication-token-webhook", "authentication.webhook.enabled")
	fs.DurationVar(&k.Authentication.Webhook.CacheTTL.Duration, "authentication-token-webhook-cache-ttl", k.Authentication.Webhook.CacheTTL.Duration, "sets authentication.webhook.cacheTTL")
	c.Set.Bind("authentication-token-webhook-cache-ttl", "authentication.webhook.cacheTTL")
	fs.StringVar((*string)(&k.Authorization.Mode), "authorization-mode", string(k.Authorization.Mode), "sets authorization.mode")
	c.Set.Bind("authorization-mode", "authorization.mode")
	str(&k.Authentication.X509.ClientCAFile, "client-ca-file", "authentication.x509.clientCAFile")
	str(&k.TLSCertFile, "tls-cert-file", "tlsCertFile")
	str(&k.TLSPrivateKeyFile, "tls-private-key-file", "tlsPrivateKeyFile")
	str(&k.TLSMinVersion, "tls-min-version", "tlsMinVersion")
	list(&k.TLSCipherSuites, "tls-cipher-suites", "tlsCipherSuites")
	boolean(&k.RotateCertificates, "rotate-certificates", "rotateCertificates")
	boolean(&k.ServerTLSBootstrap, "rotate-server-certificates", "serverTLSBootstrap")
	str(&k.StaticPodPath, "pod-manifest-path", "staticPodPath")
	str(&k.StaticPodURL, "manifest-url", "staticPodURL")
	fs.Var(&headerValue{&k.StaticPodURLHeader}, "manifest-url-header", "sets staticPodURLHeader")
	c.Set.Bind("manifest-url-header", "staticPodURLHeader")
	str(&k.ContainerRuntimeEndpoint, "container-runtime-endpoint", "containerRuntimeEndpoint")
	str(&k.ImageServiceEndpoint, "image-service-endpoint", "imageServiceEndpoint")
	str(&k.ClusterDomain, "cluster-domain", "clusterDomain")
	list(&k.ClusterDNS, "cluster-dns", "clusterDNS")
	str(k.ResolverConfig, "resolv-conf", "resolvConf")
	str(&k.CgroupDriver, "cgroup-driver", "cgroupDriver")
	str(&k.CgroupRoot, "cgroup-root", "cgroupRoot")
	boolean(k.CgroupsPerQOS, "cgroups-per-qos", "cgroupsPerQOS")
	boolean(k.FailCgroupV1, "fail-cgroupv1", "failCgroupV1")
	boolean(k.FailSwapOn, "fail-swap-on", "failSwapOn")
	boolean(k.CPUCFSQuota, "cpu-cfs-quota", "cpuCFSQuota")
	boolean(k.SeccompDefault, "seccomp-default", "seccompDefault")
	boolean(k.RegisterNode, "register-node", "registerNode")
	boolean(&k.ProtectKernelDefaults, "protect-kernel-defaults", "protectKernelDefaults")
	boolean(k.SerializeImagePulls, "serialize-image-pulls", "serializeImagePulls")
	fs.Var(&taintsValue{&k.RegisterWithTaints}, "register-with-taints", "sets registerWithTaints: key=value:effect, separated by commas")
	c.Set.Bind("register-with-taints", "registerWithTaints")
	str(&k.ProviderID, "provider-id", "providerID")
	str(&k.PodCIDR, "pod-cidr", "podCIDR")
	number(&k.MaxPods, "max-pods", "maxPods")
	number(&k.PodsPerCore, "pods-per-core", "podsPerCore")
	fs.Int64Var(k.PodPidsLimit, "pod-max-pids", *k.PodPidsLimit, "sets podPidsLimit")
	c.Set.Bind("pod-max-pids", "podPidsLimit")
	number(k.NodeStatusMaxImages, "node-status-max-images", "nodeStatusMaxImages")
	number(k.OOMScoreAdj, "oom-score-adj", "oomScoreAdj")
	number(k.RegistryPullQPS, "registry-qps", "registryPullQPS")
	number(&k.RegistryBurst, "registry-burst", "registryBurst")
	number(k.EventRecordQPS, "event-qps", "eventRecordQPS")
	number(&k.EventBurst, "event-burst", "eventBurst")
	number(k.KubeAPIQPS, "kube-api-qps", "kubeAPIQPS")
	number(&k.KubeAPIBurst, "kube-api-burst", "kubeAPIBurst")
	str(&k.ContentType, "kube-api-content-type", "contentType")
	number(k.ImageGCHighThresholdPercent, "image-gc-high-threshold", "imageGCHighThresholdPercent")
	number(k.ImageGCLowThresholdPercent, "image-gc-low-threshold", "imageGCLowThresholdPercent")
	str(&k.ContainerLogMaxSize, "container-log-max-size", "containerLogMaxSize")
	number(k.ContainerLogMaxFiles, "container-log-max-files", "containerLogMaxFiles")
	number(&k.EvictionMaxPodGracePeriod, "eviction-max-pod-grace-period", "evictionMaxPodGracePeriod")
	list(&k.EnforceNodeAllocatable, "enforce-node-allocatable", "enforceNodeAllocatable")
	list(&k.AllowedUnsafeSysctls, "allowed-unsafe-sysctls", "allowedUnsafeSysctls")
	pairs(&k.EvictionHard, "<", "eviction-hard", "evictionHard")
	pairs(&k.EvictionSoft, "<", "eviction-soft", "evictionSoft")
	pairs(&k.EvictionSoftGracePeriod, "=", "eviction-soft-grace-period", "evictionSoftGracePeriod")
	pairs(&k.EvictionMinimumReclaim, "=", "eviction-minimum-reclaim", "evictionMinimumReclaim")
	pairs(&k.SystemReserved, "=", "system-reserved", "systemReserved")
	pairs(&k.KubeReserved, "=", "kube-reserved", "kubeReserved")
	str(&k.CPUManagerPolicy, "cpu-manager-policy", "cpuManagerPolicy")
	str(&k.MemoryManagerPolicy, "memory-manager-policy", "memoryManagerPolicy")
	str(&k.TopologyManagerPolicy, "topology-manager-policy", "topologyManagerPolicy")
	str(&k.TopologyManagerScope, "topology-manager-scope", "topologyManagerScope")
	boolean(&k.RunOnce, "runonce", "runOnce")
	boolean(&k.EnableContentionProfiling, "contention-profiling", "enableContentionProfiling")
	boolean(k.LocalStorageCapacityIsolation, "local-storage-capacity-isolation", "localStorageCapacityIsolation")
	fs.Var(&gateValue{&k.FeatureGates}, "feature-gates", "sets featureGates: accepted and shown; features are built in")
	c.Set.Bind("feature-gates", "featureGates")
	for _, d := range c.durations() {
		fs.DurationVar(d.at, d.flag, *d.at, "sets "+d.path)
		c.Set.Bind(d.flag, d.path)
	}
	c.inert()
}

func (c *Config) inert() {
	for name, why := range map[string]string{
		"pod-infra-container-image":             "the container runtime chooses the sandbox image",
		"cpu-manager-policy-options":            "there is no static CPU manager policy here",
		"topology-manager-policy-options":       "there is no topology manager here",
		"reserved-memory":                       "there is no static memory manager policy here",
		"reserved-cpus":                         "there is no static CPU manager policy here",
		"qos-reserved":                          "the QOSReserved feature is not part of this kubelet",
		"experimental-mounter-path":             "mounts are made by the kernel's own calls",
		"hairpin-mode":                          "the CNI bridge plugin's own setting decides",
		"housekeeping-interval":                 "there is no cAdvisor here",
		"image-credential-provider-bin-dir":     "credential provider plugins are not part of this kubelet",
		"image-credential-provider-config":      "credential provider plugins are not part of this kubelet",
		"kube-reserved-cgroup":                  "kubernetes daemons are not limited by this kubelet",
		"system-reserved-cgroup":                "system daemons are not limited by this kubelet",
		"kubelet-cgroups":                       "the kubelet stays in the cgroup it was started in",
		"runtime-cgroups":                       "the runtime stays in the cgroup it was started in",
		"system-cgroups":                        "system processes stay in their cgroups",
		"log-flush-frequency":                   "log lines are not buffered",
		"log-json-info-buffer-size":             "log lines are not buffered",
		"log-text-info-buffer-size":             "log lines are not buffered",
		"vmodule":                               "verbosity is one for the whole process",
		"max-open-files":                        "the limit of the process is left as it was started with",
		"maximum-dead-containers":               "one dead instance of each container is kept",
		"maximum-dead-containers-per-container": "one dead instance of each container is kept",
		"minimum-container-ttl-duration":        "dead containers are collected at once",
		"volume-plugin-dir":                     "flexVolume is not part of this kubelet",
	} {
		c.Set.Inert(name, options.InertString, why)
	}
	for name, why := range map[string]string{
		"enable-controller-attach-detach":          "no attachable volumes are supported",
		"experimental-allocatable-ignore-eviction": "hard eviction thresholds always count",
		"kernel-memcg-notification":                "memory is polled",
		"log-json-split-stream":                    "logs go to standard error",
		"log-text-split-stream":                    "logs go to standard error",
		"make-iptables-util-chains":                "the KUBE-IPTABLES-HINT chain is not made",
	} {
		c.Set.Inert(name, options.InertBool, why)
		c.Set.Flags().Lookup(name).NoOptDefVal = "true"
	}
}
