package config

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kubeletv1beta1 "k8s.io/kubelet/config/v1beta1"
)

func set[T any](field **T, v T) {
	if *field == nil {
		*field = &v
	}
}

func fill[T comparable](field *T, v T) {
	var zero T
	if *field == zero {
		*field = v
	}
}

func wait(field *metav1.Duration, v time.Duration) { fill(&field.Duration, v) }

// DefaultEvictionHard is upstream's thresholds, used where none is set.
func DefaultEvictionHard() map[string]string {
	return map[string]string{
		"memory.available": "100Mi", "nodefs.available": "10%", "nodefs.inodesFree": "5%", "imagefs.available": "15%", "imagefs.inodesFree": "5%",
	}
}

// SetDefaults fills every unset field, zero durations included, with upstream's default. It is idempotent.
func SetDefaults(k *Kubelet) {
	setTimes(k)
	set(&k.EnableServer, true)
	fill(&k.Address, "0.0.0.0")
	fill(&k.Port, 10250)
	set(&k.Authentication.Anonymous.Enabled, false)
	set(&k.Authentication.Webhook.Enabled, true)
	fill(&k.Authorization.Mode, kubeletv1beta1.KubeletAuthorizationModeWebhook)
	set(&k.RegistryPullQPS, int32(5))
	fill(&k.RegistryBurst, 10)
	set(&k.EventRecordQPS, int32(50))
	fill(&k.EventBurst, 100)
	set(&k.EnableDebuggingHandlers, true)
	set(&k.HealthzPort, int32(10248))
	fill(&k.HealthzBindAddress, "127.0.0.1")
	set(&k.OOMScoreAdj, int32(-999))
	fill(&k.NodeLeaseDurationSeconds, 40)
	set(&k.ImageGCHighThresholdPercent, int32(85))
	set(&k.ImageGCLowThresholdPercent, int32(80))
	set(&k.CgroupsPerQOS, true)
	fill(&k.CgroupDriver, "cgroupfs")
	fill(&k.CPUManagerPolicy, "none")
	fill(&k.MemoryManagerPolicy, kubeletv1beta1.NoneMemoryManagerPolicy)
	fill(&k.TopologyManagerPolicy, kubeletv1beta1.NoneTopologyManagerPolicy)
	fill(&k.TopologyManagerScope, kubeletv1beta1.ContainerTopologyManagerScope)
	fill(&k.HairpinMode, kubeletv1beta1.PromiscuousBridge)
	fill(&k.MaxPods, 110)
	if k.PodPidsLimit == nil || *k.PodPidsLimit < 0 {
		n := int64(-1)
		k.PodPidsLimit = &n
	}
	set(&k.ResolverConfig, "/etc/resolv.conf")
	set(&k.CPUCFSQuota, true)
	set(&k.CPUCFSQuotaPeriod, metav1.Duration{Duration: 100 * time.Millisecond})
	set(&k.NodeStatusMaxImages, int32(50))
	fill(&k.MaxOpenFiles, 1000000)
	fill(&k.ContentType, "application/vnd.kubernetes.protobuf")
	set(&k.KubeAPIQPS, int32(50))
	fill(&k.KubeAPIBurst, 100)
	set(&k.SerializeImagePulls, k.MaxParallelImagePulls == nil || *k.MaxParallelImagePulls < 2)
	set(&k.MergeDefaultEvictionSettings, false)
	set(&k.EnableControllerAttachDetach, true)
	set(&k.MakeIPTablesUtilChains, true)
	set(&k.IPTablesMasqueradeBit, int32(14))
	set(&k.IPTablesDropBit, int32(15))
	set(&k.FailSwapOn, true)
	fill(&k.ContainerLogMaxSize, "10Mi")
	set(&k.ContainerLogMaxFiles, int32(5))
	set(&k.ContainerLogMaxWorkers, int32(1))
	fill(&k.ConfigMapAndSecretChangeDetectionStrategy, kubeletv1beta1.WatchChangeDetectionStrategy)
	if k.EnforceNodeAllocatable == nil {
		k.EnforceNodeAllocatable = []string{"pods"}
	}
	fill(&k.VolumePluginDir, "/usr/libexec/kubernetes/kubelet-plugins/volume/exec/")
	set(&k.EnableSystemLogHandler, true)
	set(&k.EnableProfilingHandler, true)
	set(&k.EnableDebugFlagsHandler, true)
	set(&k.SeccompDefault, false)
	set(&k.FailCgroupV1, true)
	fill(&k.MemoryReservationPolicy, kubeletv1beta1.NoneMemoryReservationPolicy)
	set(&k.RegisterNode, true)
	set(&k.LocalStorageCapacityIsolation, true)
	fill(&k.ContainerRuntimeEndpoint, "unix:///run/containerd/containerd.sock")
	fill(&k.PodLogsDir, "/var/log/pods")
	set(&k.CrashLoopBackOff.MaxContainerRestartPeriod, metav1.Duration{Duration: 300 * time.Second})
	fill(&k.ImagePullCredentialsVerificationPolicy, kubeletv1beta1.NeverVerifyPreloadedImages)
}

func setTimes(k *Kubelet) {
	wait(&k.SyncFrequency, time.Minute)
	wait(&k.FileCheckFrequency, 20*time.Second)
	wait(&k.HTTPCheckFrequency, 20*time.Second)
	wait(&k.Authentication.Webhook.CacheTTL, 2*time.Minute)
	wait(&k.Authorization.Webhook.CacheAuthorizedTTL, 5*time.Minute)
	wait(&k.Authorization.Webhook.CacheUnauthorizedTTL, 30*time.Second)
	wait(&k.StreamingConnectionIdleTimeout, 4*time.Hour)
	if k.NodeStatusReportFrequency.Duration == 0 {
		k.NodeStatusReportFrequency.Duration = 5 * time.Minute
		if d := k.NodeStatusUpdateFrequency.Duration; d != 0 {
			k.NodeStatusReportFrequency.Duration = d
		}
	}
	wait(&k.NodeStatusUpdateFrequency, 10*time.Second)
	wait(&k.ImageMinimumGCAge, 2*time.Minute)
	wait(&k.VolumeStatsAggPeriod, time.Minute)
	wait(&k.CPUManagerReconcilePeriod, 10*time.Second)
	wait(&k.RuntimeRequestTimeout, 2*time.Minute)
	wait(&k.EvictionPressureTransitionPeriod, 5*time.Minute)
	set(&k.ContainerLogMonitorInterval, metav1.Duration{Duration: 10 * time.Second})
}
