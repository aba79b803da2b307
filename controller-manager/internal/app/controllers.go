package app

import (
	"flagship/controller-manager/internal/batch"
	"flagship/controller-manager/internal/cert"
	"flagship/controller-manager/internal/config"
	"flagship/controller-manager/internal/endpoints"
	"flagship/controller-manager/internal/gc"
	"flagship/controller-manager/internal/loop"
	"flagship/controller-manager/internal/node"
	"flagship/controller-manager/internal/tenancy"
	"flagship/controller-manager/internal/volume"
	"flagship/controller-manager/internal/workload"
)

// build makes a controller; a nil controller has nothing to do with the given options.
type build func(d loop.Deps) (*loop.Controller, error)

func plain(f func(d loop.Deps) *loop.Controller) build {
	return func(d loop.Deps) (*loop.Controller, error) { return f(d), nil }
}

func sized(n int32, f func(workers int, d loop.Deps) *loop.Controller) build {
	return func(d loop.Deps) (*loop.Controller, error) { return f(int(n), d), nil }
}

// builders are the controllers that this version has, by name.
func builders(cfg *config.Config) map[string]build {
	w := &cfg.Workers
	return map[string]build{
		"serviceaccount-controller":                plain(tenancy.NewServiceAccount),
		"root-ca-certificate-publisher-controller": func(d loop.Deps) (*loop.Controller, error) { return tenancy.NewRootCA(cfg.RootCAFile, d) },
		"clusterrole-aggregation-controller":       plain(tenancy.NewClusterRoleAggregation),
		"garbage-collector-controller": func(d loop.Deps) (*loop.Controller, error) {
			if !cfg.EnableGC {
				return nil, nil
			}
			return gc.New(int(w.GC), d)
		},
		"job-controller":                              sized(w.Job, batch.NewJob),
		"cronjob-controller":                          sized(w.CronJob, batch.NewCronJob),
		"ttl-after-finished-controller":               sized(w.TTLAfterFinished, batch.NewTTLAfterFinished),
		"persistentvolumeclaim-protection-controller": plain(volume.NewClaimProtection),
		"persistentvolume-binder-controller":          plain(func(d loop.Deps) *loop.Controller { return volume.NewBinder(cfg.BinderPeriod, d) }),
		"ephemeral-volume-controller":                 sized(w.EphemeralVolume, volume.NewEphemeral),
		"persistentvolume-protection-controller":      plain(volume.NewVolumeProtection),
		"volumeattributesclass-protection-controller": plain(volume.NewAttributesClassProtection),
		"resourcequota-controller": func(d loop.Deps) (*loop.Controller, error) {
			return tenancy.NewQuota(int(w.Quota), cfg.QuotaPeriod, d)
		},
		"serviceaccount-token-controller": func(d loop.Deps) (*loop.Controller, error) {
			return tenancy.NewAccountTokens(int(w.AccountTokens), cfg.AccountKey, cfg.RootCAFile, d)
		},
		"namespace-controller": func(d loop.Deps) (*loop.Controller, error) {
			return tenancy.NewNamespace(int(w.Namespace), d)
		},
		"certificatesigningrequest-signing-controller": func(d loop.Deps) (*loop.Controller, error) {
			return cert.NewSigning(cfg.Signing, d)
		},
		"certificatesigningrequest-approving-controller": plain(cert.NewApproving),
		"certificatesigningrequest-cleaner-controller":   plain(cert.NewCleaner),
		"podcertificaterequest-cleaner-controller":       plain(cert.NewPodRequestCleaner),
		"bootstrap-signer-controller":                    plain(cert.NewBootstrapSigner),
		"token-cleaner-controller":                       plain(cert.NewTokenCleaner),
		"node-ipam-controller":                           plain(func(d loop.Deps) *loop.Controller { return node.NewIPAM(cfg.Node, d) }),
		"node-lifecycle-controller":                      plain(func(d loop.Deps) *loop.Controller { return node.NewLifecycle(cfg.Node, d) }),
		"taint-eviction-controller":                      plain(node.NewTaintEviction),
		"ttl-controller":                                 plain(node.NewTTL),
		"pod-garbage-collector-controller": plain(func(d loop.Deps) *loop.Controller {
			return node.NewPodGC(cfg.TerminatedPod, d)
		}),
		"endpoints-controller": plain(func(d loop.Deps) *loop.Controller {
			return endpoints.NewEndpoints(endpoints.Config{Workers: w.Endpoints, Batch: cfg.EndpointsBatch}, d)
		}),
		"endpointslice-controller": plain(func(d loop.Deps) *loop.Controller {
			return endpoints.NewSlices(endpoints.Config{Workers: w.Slices, Limit: cfg.MaxEndpoints, Batch: cfg.SlicesBatch}, d)
		}),
		"endpointslice-mirroring-controller": plain(func(d loop.Deps) *loop.Controller {
			return endpoints.NewMirroring(endpoints.Config{Workers: w.Mirroring, Limit: cfg.MaxEndpoints}, cfg.MirroringMaxEndpoints, d)
		}),
		"deployment-controller":            sized(w.Deployment, workload.NewDeployment),
		"replicaset-controller":            sized(w.ReplicaSet, workload.NewReplicaSet),
		"statefulset-controller":           sized(w.StatefulSet, workload.NewStatefulSet),
		"disruption-controller":            sized(w.Disruption, workload.NewDisruption),
		"daemonset-controller":             sized(w.DaemonSet, workload.NewDaemonSet),
		"replicationcontroller-controller": sized(w.ReplicationController, workload.NewReplicationController),
	}
}
