package app

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/record"

	"flagship/internal/decision"
	"flagship/internal/kube"
	"flagship/internal/logging"
	"flagship/internal/process"
	"flagship/internal/version"
	"flagship/kubelet/internal/allocate"
	"flagship/kubelet/internal/config"
	"flagship/kubelet/internal/cri"
	"flagship/kubelet/internal/image"
	"flagship/kubelet/internal/node"
	"flagship/kubelet/internal/observe"
	"flagship/kubelet/internal/podcert"
	"flagship/kubelet/internal/podspec"
	"flagship/kubelet/internal/probe"
	"flagship/kubelet/internal/resource"
	"flagship/kubelet/internal/runconfig"
	"flagship/kubelet/internal/source"
	"flagship/kubelet/internal/status"
	"flagship/kubelet/internal/volume"
	"flagship/kubelet/internal/worker"
)

// decisionCapacity is how many verdicts are kept.
const decisionCapacity = 1024

// kubelet is the wired process.
type kubelet struct {
	cfg     *config.Config
	log     *zap.Logger
	name    string
	ips     []string
	machine resource.Machine
	started time.Time

	capacity, allocatable corev1.ResourceList

	runtime   *cri.Client
	health    *node.Health
	relist    *observe.Relist
	cgroups   *resource.Cgroups
	books     *allocate.Books
	records   *image.Records
	evictor   *resource.Evictor
	volumes   *volume.Manager
	builder   *runconfig.Builder
	probes    *probe.Manager
	statuses  *status.Manager
	pool      *worker.Pool
	mux       *source.Mux
	decisions *decision.Log
	metrics   *meters

	// With an API server only.
	client   *kube.Client
	api      *node.API
	member   *node.Member
	mirrors  *status.Mirrors
	recorder record.EventRecorder
	services *serviceCache
	issuer   *podcert.Issuer
}

// Run runs the kubelet until ctx ends.
func Run(ctx context.Context, cfg *config.Config) error {
	log, err := logging.New(cfg.Logging)
	if err != nil {
		return err
	}
	defer func() { _ = log.Sync() }()
	cfg.Set.WarnInert(log)
	k := &kubelet{cfg: cfg, log: log, started: time.Now(), decisions: decision.NewLog("kubelet", decisionCapacity)}
	log.Info("starting kubelet", zap.String("version", version.Get().GitVersion), zap.Bool("standalone", cfg.Standalone()))
	if err := k.preflight(); err != nil {
		return err
	}
	if err := k.connect(ctx); err != nil {
		return err
	}
	if err := k.wire(ctx); err != nil {
		return err
	}
	srv, err := k.server()
	if err != nil {
		return err
	}
	return process.Run(ctx, log, k.parts(srv)...)
}

// preflight checks the machine and makes the kubelet's folders.
func (k *kubelet) preflight() error {
	var err error
	if os.Geteuid() != 0 {
		return errors.New("must run as root: it makes mounts and cgroups")
	}
	if k.name, err = k.cfg.Hostname(); err != nil {
		return err
	}
	if k.ips, err = node.Addresses(k.cfg.NodeIP, k.name); err != nil {
		return err
	}
	if k.machine, err = resource.ReadMachine(); err != nil {
		return err
	}
	if !resource.IsV2(resource.Root) && *k.cfg.FailCgroupV1 {
		return errors.New("kubelet is configured to not run on a host using cgroup v1: set failCgroupV1 to false to run on it anyway")
	}
	if *k.cfg.FailSwapOn && k.machine.Swap > 0 {
		return errors.New("running with swap on is not supported, please disable swap or set --fail-swap-on flag to false")
	}
	for _, d := range []struct {
		path string
		mode os.FileMode
	}{
		{k.cfg.RootDir, 0o750},
		{filepath.Join(k.cfg.RootDir, "pods"), 0o750},
		{k.cfg.CertDir, 0o750},
		{k.cfg.PodLogsDir, 0o755},
		{containersDir, 0o755},
		{filepath.Join(k.cfg.RootDir, "seccomp"), 0o750},
	} {
		if err := os.MkdirAll(d.path, d.mode); err != nil {
			return fmt.Errorf("make the kubelet's folder: %w", err)
		}
	}
	if err := os.WriteFile("/proc/self/oom_score_adj", []byte(strconv.Itoa(int(*k.cfg.OOMScoreAdj))), 0o644); err != nil {
		k.log.Info("oomScoreAdj could not be applied", zap.Error(err))
	}
	maxPods := int64(k.cfg.MaxPods)
	if n := int64(k.cfg.PodsPerCore) * k.machine.CPUs; n > 0 && n < maxPods {
		maxPods = n
	}
	k.capacity, k.allocatable, err = resource.Capacity(k.machine, k.cfg.RootDir, maxPods, resource.Reserved{
		System: k.cfg.SystemReserved, Kube: k.cfg.KubeReserved, EvictionHard: k.cfg.EvictionHard,
	})
	return err
}

// containersDir is where log collectors find every container's log.
const containersDir = "/var/log/containers"

// connect prepares the runtime and, unless standalone, the API server.
func (k *kubelet) connect(ctx context.Context) (err error) {
	k.runtime, err = cri.New(cri.Config{
		RuntimeEndpoint: k.cfg.ContainerRuntimeEndpoint, ImageEndpoint: k.cfg.ImageServiceEndpoint,
		Timeout: k.cfg.RuntimeRequestTimeout.Duration, UserAgent: "kubelet/" + version.Get().GitVersion,
	})
	if err != nil || k.cfg.Standalone() {
		return err
	}
	rc, err := k.credentials(ctx)
	if err != nil {
		return err
	}
	if k.client, err = kube.NewClient(rc, node.Kinds); err != nil {
		return err
	}
	if err := k.client.Verify(); err != nil {
		return fmt.Errorf("--kubeconfig: %w", err)
	}
	k.api = node.NewAPI(k.client, k.name, func(uid types.UID) { k.pool.Wake(uid) })
	k.recorder = kube.Recorder(ctx, k.client, "kubelet", k.name)
	k.mirrors = status.NewMirrors(k.log, k.name, k.api)
	k.services = newServiceCache(k.client)
	certs := podcert.NewClient(k.client)
	k.issuer = podcert.New(podcert.Deps{
		Log: k.log, API: certs, Requests: certs.Requests(k.name), Node: k.name, NodeUID: k.api.NodeUID, Events: k.event,
		Issued: func(uid types.UID) { k.pool.Wake(uid) }, Jitter: rand.N[time.Duration],
	})
	return nil
}

// wire makes the parts; nothing runs yet.
func (k *kubelet) wire(ctx context.Context) error {
	cfg := k.cfg
	v2 := resource.IsV2(resource.Root)
	driver := k.cgroupDriver(ctx)
	var units resource.Units
	if driver == "systemd" {
		units = &resource.Systemd{}
	}
	pods := filepath.Join(cfg.RootDir, "pods")
	k.cgroups = resource.NewCgroups(resource.CgroupConfig{
		Mount: resource.Root, V2: v2, Systemd: driver == "systemd", Prefix: cfg.CgroupRoot, PerQOS: *cfg.CgroupsPerQOS, CFSQuota: *cfg.CPUCFSQuota,
		Period: cfg.CPUCFSQuotaPeriod.Microseconds(), PodPids: *cfg.PodPidsLimit, NodeCPU: k.allocatable.Cpu().MilliValue(), NodeMem: k.podMemory(),
		Huge: resource.HugePageSizes(),
	}, units)
	if err := k.cgroups.Setup(); err != nil {
		return err
	}
	var err error
	if k.books, err = allocate.Open(cfg.RootDir); err != nil {
		return err
	}
	k.metrics = newMeters(k)
	k.health = node.NewHealth(k.log, k.runtime, func() {
		if k.member != nil {
			k.member.Poke()
		}
		k.pool.WakeAll()
	})
	k.volumes = volume.New(volume.Config{PodsDir: pods}, volume.Deps{Objects: k, Tokens: k, Allocatable: func() corev1.ResourceList { return k.allocatable }, Claims: k.claims(), Bundles: k.bundles(), Certificates: k.certificates()})
	k.builder = runconfig.New(runconfig.Config{
		PodsDir: pods, LogsDir: cfg.PodLogsDir, DNS: k.dns, Sysctls: cfg.DefaultPodSysctls, RecursiveReadOnly: k.recursiveReadOnly,
		Resources: runconfig.ResourceRules{
			CPUCFSQuota: *cfg.CPUCFSQuota, CFSPeriod: cfg.CPUCFSQuotaPeriod.Microseconds(), MemoryCapacity: k.machine.Memory, CgroupV2: v2,
			SingleProcessOOM: cfg.SingleProcessOOMKill != nil && *cfg.SingleProcessOOMKill,
		},
		Security: runconfig.SecurityRules{SeccompDefault: *cfg.SeccompDefault, SeccompRoot: filepath.Join(cfg.RootDir, "seccomp")},
	}, runconfig.Deps{
		Volumes: k.volumes, Objects: k, Services: k.servicesOf, CgroupParent: k.cgroups.Parent,
		Allocatable: func() corev1.ResourceList { return k.allocatable },
	})
	var sink status.API
	if k.api != nil {
		sink = k.api
	}
	k.statuses = status.NewManager(k.log, sink, k.mirrors)
	k.probes = probe.New(probe.Deps{
		Log: k.log, Prober: probe.NewReal(k.runtime), Status: k.statuses.Get, Wake: func(uid types.UID) { k.pool.Wake(uid) }, Events: k.event,
		Count: k.metrics.probe, Start: k.started,
	})
	images, err := k.images(ctx)
	if err != nil {
		return err
	}
	k.pool = worker.New(worker.Config{
		SyncPeriod: cfg.SyncFrequency.Duration, BackoffMax: cfg.CrashLoopBackOff.MaxContainerRestartPeriod.Duration, ContainersDir: containersDir,
	}, worker.Deps{
		Log: k.log, Runtime: k.runtime, Builder: k.builder, Volumes: k.volumes, Images: images, Statuses: k.statuses, Cgroups: k.cgroups, Books: k.books, RecursiveReadOnly: k.recursiveReadOnly,
		Allocatable: func() corev1.ResourceList { return k.allocatable },
		Probes:      k.probes, Node: k, Events: k.event, Decided: k.decided, Removed: k.removed, Ready: func() bool { return k.mux.Ready() },
	})
	k.relist = observe.New(k.log, k.runtime, k.pool.Wake)
	k.mux = source.NewMux(k, k.sourceNames()...)
	if k.client != nil {
		k.member = node.NewMember(node.MemberConfig{
			Name: k.name, Register: *cfg.RegisterNode, Labels: cfg.NodeLabels, Taints: cfg.RegisterWithTaints, External: cfg.CloudProvider == "external",
			ProviderID: cfg.ProviderID, Update: cfg.NodeStatusUpdateFrequency.Duration, Report: cfg.NodeStatusReportFrequency.Duration,
			LeaseDuration: time.Duration(cfg.NodeLeaseDurationSeconds) * time.Second,
		}, node.MemberDeps{Log: k.log, API: k.api, Client: k.client, Facts: k.facts, Events: k.nodeEvent, CIDR: k.podCIDR})
	}
	k.evictor, err = k.newEvictor()
	return err
}

// images makes the puller, and recalls what an earlier process was pulling when it ended.
func (k *kubelet) images(ctx context.Context) (*image.Puller, error) {
	cfg := k.cfg
	parallel := 0
	if *cfg.SerializeImagePulls {
		parallel = 1
	} else if cfg.MaxParallelImagePulls != nil {
		parallel = int(*cfg.MaxParallelImagePulls)
	}
	var err error
	if k.records, err = image.OpenRecords(cfg.RootDir, cfg.ImagePullCredentialsVerificationPolicy, cfg.PreloadedImagesVerificationAllowlist); err != nil {
		return nil, err
	}
	if list, err := k.runtime.Images(ctx); err == nil {
		names := map[string][]string{}
		for _, i := range list {
			names[i.Id] = append(append([]string{}, i.RepoTags...), i.RepoDigests...)
		}
		k.records.Recover(names, time.Now())
	}
	return image.New(image.Config{
		Parallel: parallel, QPS: float64(*cfg.RegistryPullQPS), Burst: int(cfg.RegistryBurst), BackoffStart: 10 * time.Second, BackoffMax: 5 * time.Minute,
		NodeAuth: image.NodeKeyring(cfg.RootDir, "/root/.docker"), Records: k.records,
	}, k.log, k.runtime, k.event), nil
}

// cgroupDriver asks the runtime, and falls back to the configuration.
func (k *kubelet) cgroupDriver(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	driver, err := k.runtime.CgroupDriver(ctx)
	if err != nil || driver == "" {
		return k.cfg.CgroupDriver
	}
	if driver != k.cfg.CgroupDriver {
		k.log.Info("the runtime's cgroup driver is used in place of the configured one", zap.String("runtime", driver), zap.String("configured", k.cfg.CgroupDriver))
	}
	return driver
}

// podMemory is what all pods together may use, 0 where that is not enforced.
func (k *kubelet) podMemory() int64 {
	for _, e := range k.cfg.EnforceNodeAllocatable {
		if e == "pods" && len(k.cfg.SystemReserved)+len(k.cfg.KubeReserved) > 0 {
			return k.allocatable.Memory().Value()
		}
	}
	return 0
}

func (k *kubelet) sourceNames() []string {
	var names []string
	if k.client != nil {
		names = append(names, podspec.SourceAPI)
	}
	if k.cfg.StaticPodPath != "" {
		names = append(names, podspec.SourceFile)
	}
	if k.cfg.StaticPodURL != "" {
		names = append(names, podspec.SourceHTTP)
	}
	return names
}

// hostResolv reads the node's resolver configuration; an unreadable file is an empty one, as it was said in the log once.
func hostResolv(path string) string {
	if path == "" {
		return ""
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return strings.ReplaceAll(string(data), "\r", "")
}
