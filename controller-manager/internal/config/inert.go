package config

import "flagship/internal/options"

// inertFlags registers the flags that upstream has and that do nothing here.
func (c *Config) inertFlags() {
	const (
		gates = "every feature of this build is either on or not there"
		cloud = "there is no cloud provider in this binary"
		proxy = "a front proxy is not trusted on this port"
		recyc = "the Recycle policy is not supported"
		built = "its controller is not built in this version"
	)
	for _, f := range []struct {
		name string
		kind options.InertKind
		why  string
	}{
		{"feature-gates", options.InertString, gates},
		{"emulated-version", options.InertString, gates},
		{"min-compatibility-version", options.InertString, gates},
		{"contention-profiling", options.InertBool, "blocking is not profiled"},
		{"enable-leader-migration", options.InertBool, cloud},
		{"leader-migration-config", options.InertString, cloud},
		{"cidr-allocator-type", options.InertString, "only RangeAllocator is there"},
		{"cloud-config", options.InertString, cloud},
		{"cloud-provider", options.InertString, cloud},
		{"configure-cloud-routes", options.InertBool, cloud},
		{"external-cloud-volume-plugin", options.InertString, cloud},
		{"route-reconciliation-period", options.InertString, cloud},
		{"controller-shutdown-timeout", options.InertString, "controllers stop when their requests are done"},
		{"controller-start-interval", options.InertString, "controllers start at once"},
		{"min-resync-period", options.InertString, "controllers repeat by their own timers, informers do not"},
		{"leader-elect-resource-lock", options.InertString, "only leases are used"},
		{"authentication-token-webhook-cache-ttl", options.InertString, "the time is fixed"},
		{"authorization-webhook-cache-authorized-ttl", options.InertString, "the time is fixed"},
		{"authorization-webhook-cache-unauthorized-ttl", options.InertString, "the time is fixed"},
		{"requestheader-allowed-names", options.InertString, proxy},
		{"requestheader-client-ca-file", options.InertString, proxy},
		{"requestheader-extra-headers-prefix", options.InertString, proxy},
		{"requestheader-group-headers", options.InertString, proxy},
		{"requestheader-uid-headers", options.InertString, proxy},
		{"requestheader-username-headers", options.InertString, proxy},
		{"http2-max-streams-per-connection", options.InertString, "250 streams are allowed"},
		{"permit-address-sharing", options.InertBool, "the port is not shared"},
		{"permit-port-sharing", options.InertBool, "the port is not shared"},
		{"disable-http2-serving", options.InertBool, "gRPC needs HTTP/2"},
		{"tls-sni-cert-key", options.InertString, "one certificate is served"},
		{"tls-curve-preferences", options.InertString, "Go's preferences are used"},
		{"attach-detach-reconcile-sync-period", options.InertString, built},
		{"disable-attach-detach-reconcile-sync", options.InertBool, built},
		{"disable-force-detach-on-timeout", options.InertBool, built},
		{"concurrent-device-taint-eviction-syncs", options.InertString, built},
		{"concurrent-resourceclaim-syncs", options.InertString, built},
		{"concurrent-validating-admission-policy-status-syncs", options.InertString, built},
		{"legacy-service-account-token-clean-up-period", options.InertString, built},
		{"enable-dynamic-provisioning", options.InertBool, "external provisioners watch for the claims' annotation"},
		{"enable-hostpath-provisioner", options.InertBool, "provisioners are external"},
		{"flex-volume-plugin-dir", options.InertString, "flex volumes are not supported"},
		{"pv-recycler-increment-timeout-nfs", options.InertString, recyc},
		{"pv-recycler-minimum-timeout-hostpath", options.InertString, recyc},
		{"pv-recycler-minimum-timeout-nfs", options.InertString, recyc},
		{"pv-recycler-pod-template-filepath-hostpath", options.InertString, recyc},
		{"pv-recycler-pod-template-filepath-nfs", options.InertString, recyc},
		{"pv-recycler-timeout-increment-hostpath", options.InertString, recyc},
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
