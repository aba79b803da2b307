package config

import (
	"strings"
	"time"

	"flagship/apiserver/internal/oidc"
	"flagship/internal/logging"
	"flagship/internal/options"
)

func (c *Config) addFlags(set *options.Set) {
	c.addServing(set)
	c.addEtcd(set)
	c.addIdentity(set)
	c.addCluster(set)
	c.Audit.AddFlags(set.Flags())
	c.Authorization.AddFlags(set.Flags())
	c.addProviders(set)
	addInert(set)
	for _, name := range refused() {
		set.Flags().String(name, "", "not supported by this version; giving it is an error")
	}
}

func (c *Config) addServing(set *options.Set) {
	fs := set.Flags()
	logging.AddFlags(fs, &c.Logging)
	fs.IPVar(&c.AdvertiseAddress, "advertise-address", nil, "address on which to advertise the server to the cluster")
	fs.IPVar(&c.BindAddress, "bind-address", c.BindAddress, "address of the secure port")
	fs.IntVar(&c.SecurePort, "secure-port", c.SecurePort, "port served with TLS, authentication and authorization")
	fs.StringVar(&c.CertDir, "cert-dir", c.CertDir, "folder for the self-signed certificate")
	fs.StringVar(&c.TLSCertFile, "tls-cert-file", "", "PEM file with the serving certificate")
	fs.StringVar(&c.TLSKeyFile, "tls-private-key-file", "", "PEM file with the serving key")
	fs.StringVar(&c.TLSMinVersion, "tls-min-version", "", "least TLS version: VersionTLS12 or VersionTLS13")
	fs.StringSliceVar(&c.TLSCipherSuites, "tls-cipher-suites", nil, "cipher suites for TLS 1.2")
	fs.Int32SliceVar(&c.TLSCurves, "tls-curve-preferences", nil, "curves for the key exchange, by their numbers in Go's crypto/tls; without it Go's own")
	fs.BoolVar(&c.HTTP1, "disable-http2-serving", false, "serve HTTP/1.1 alone")
	fs.StringVar(&c.ExternalHostname, "external-hostname", "", "host name in URLs that the server gives out")
	fs.DurationVar(&c.RequestTimeout, "request-timeout", c.RequestTimeout, "how long a request that is not long-running may take")
	fs.IntVar(&c.MinRequestTimeout, "min-request-timeout", c.MinRequestTimeout, "least seconds that a watch lives")
	fs.IntVar(&c.MaxInFlight, "max-requests-inflight", c.MaxInFlight, "bound of reading requests at one time; 0 is none")
	fs.IntVar(&c.MaxMutating, "max-mutating-requests-inflight", c.MaxMutating, "bound of writing requests at one time; 0 is none")
	fs.BoolVar(&c.Fairness, "enable-priority-and-fairness", c.Fairness, "serve requests by FlowSchemas and PriorityLevelConfigurations, which share the sum of both bounds; without it each bound holds for itself")
	fs.DurationVar(&c.ShutdownDelay, "shutdown-delay-duration", 0, "how long to go on serving, not ready, before the shutdown")
	fs.DurationVar(&c.WatchGrace, "shutdown-watch-termination-grace-period", 0, "over how long watches end in the shutdown, so that their clients do not all come to the other servers at once")
	fs.BoolVar(&c.ShutdownRetryAfter, "shutdown-send-retry-after", false, "after the shutdown delay, answer new requests with 429 and a time to come back until those in flight are over")
	fs.StringSliceVar(&c.CORS, "cors-allowed-origins", nil, "origins whose pages may call the API, as regular expressions that are pinned to both ends of the host, such as //example\\.com(:|$)")
	fs.StringSliceVar(&c.StrictTransport, "strict-transport-security-directives", nil, "directives of the header Strict-Transport-Security: max-age=SECONDS, includeSubDomains, preload")
	fs.Float64Var(&c.GoawayChance, "goaway-chance", 0, "part of the HTTP/2 requests after which the connection ends, so that clients spread over the servers behind a load balancer; 0 to 0.02")
	fs.StringArrayVar(&c.ServerNames, "tls-sni-cert-key", nil, "certificate and key for a client that asks for one of the names, as CERT,KEY[:NAME,…]; without names for those of the certificate; may be given again")
	fs.BoolVar(&c.ContentionProfiling, "contention-profiling", false, "profile blocking, where profiling is on")
	fs.StringVar(&c.TracingConfig, "tracing-config-file", "", "file with the TracingConfiguration: where spans of requests are sent by OTLP, and of how many")
	fs.StringVar(&c.DebugSocket, "debug-socket-path", "", "socket that serves the profiles to this host, without authentication; its file may be reached by its owner alone")
	fs.BoolVar(&c.EnableProfiling, "profiling", c.EnableProfiling, "serve /debug/pprof")
	fs.IntVar(&c.MaxHTTP2Streams, "http2-max-streams-per-connection", c.MaxHTTP2Streams, "streams that one HTTP/2 connection may hold")
}

func (c *Config) addProviders(set *options.Set) {
	fs, o := set.Flags(), &c.OIDC
	fs.StringVar(&c.Authentication, "authentication-config", "", "file with the AuthenticationConfiguration: providers of JSON web tokens, and who may come without credentials; it is taken over anew when it changes")
	fs.StringVar(&c.TokenWebhook.File, "authentication-token-webhook-config-file", "", "kubeconfig of a server that recognizes tokens, by TokenReviews")
	fs.StringVar(&c.TokenWebhook.Version, "authentication-token-webhook-version", "v1beta1", "version of the TokenReviews that are sent: v1 or v1beta1")
	fs.DurationVar(&c.TokenWebhook.TTL, "authentication-token-webhook-cache-ttl", 2*time.Minute, "how long the server's answers are kept")
	fs.StringVar(&o.IssuerURL, "oidc-issuer-url", "", "https URL of the OpenID Connect provider")
	fs.StringVar(&o.ClientID, "oidc-client-id", "", "audience of the provider's tokens")
	fs.StringVar(&o.CAFile, "oidc-ca-file", "", "CA of the provider; without it that of the host")
	fs.StringVar(&o.UsernameClaim, "oidc-username-claim", o.UsernameClaim, "claim that is the user's name")
	fs.StringVar(&o.UsernamePrefix, "oidc-username-prefix", "", "prefix of users' names; without it the issuer's URL and # for claims other than email, with - none")
	fs.StringVar(&o.GroupsClaim, "oidc-groups-claim", "", "claim that is the user's groups, a text or a list of them")
	fs.StringVar(&o.GroupsPrefix, "oidc-groups-prefix", "", "prefix of groups' names")
	fs.StringSliceVar(&o.SigningAlgs, "oidc-signing-algs", o.SigningAlgs, "algorithms by which tokens may be signed: "+strings.Join(oidc.SigningAlgs, ", "))
	fs.StringToStringVar(&o.RequiredClaims, "oidc-required-claim", nil, "claim=value that tokens must have; may be given again")
}

func (c *Config) addEtcd(set *options.Set) {
	fs, e := set.Flags(), &c.Etcd
	fs.StringSliceVar(&e.Servers, "etcd-servers", nil, "etcd servers (scheme://ip:port); without it etcd runs in this process")
	fs.StringVar(&e.CAFile, "etcd-cafile", "", "CA of the etcd servers")
	fs.StringVar(&e.CertFile, "etcd-certfile", "", "client certificate for etcd")
	fs.StringVar(&e.KeyFile, "etcd-keyfile", "", "client key for etcd")
	fs.StringVar(&c.StorageBackend, "storage-backend", c.StorageBackend, "etcd3, which is all that there is")
	fs.StringVar(&c.StorageMediaType, "storage-media-type", c.StorageMediaType, "how built-in objects are stored: protobuf alone")
	fs.StringVar(&e.Prefix, "etcd-prefix", e.Prefix, "prefix of every key in etcd")
	fs.StringVar(&c.EncryptionConfig, "encryption-provider-config", "", "file with the EncryptionConfiguration: which resources are encrypted in etcd, and by what")
	fs.BoolVar(&c.ReloadEncryption, "encryption-provider-config-automatic-reload", false, "take over changes of the encryption configuration while running")
	fs.DurationVar(&e.CompactionInterval, "etcd-compaction-interval", e.CompactionInterval, "time between compactions; 0 never compacts")
	fs.StringVar(&e.DataDir, "etcd-data-dir", e.DataDir, "embedded etcd: data folder")
	fs.StringVar(&e.Name, "etcd-name", e.Name, "embedded etcd: name of this member")
	fs.StringVar(&e.ClientURL, "etcd-listen-client-url", e.ClientURL, "embedded etcd: where it serves clients such as etcdctl")
	fs.StringVar(&e.PeerURL, "etcd-listen-peer-url", e.PeerURL, "embedded etcd: where it serves the other members")
	fs.StringVar(&e.ServerCert, "etcd-server-cert-file", "", "embedded etcd: serving certificate")
	fs.StringVar(&e.ServerKey, "etcd-server-key-file", "", "embedded etcd: serving key")
	fs.StringVar(&e.ServerCA, "etcd-server-ca-file", "", "embedded etcd: CA of its clients")
	fs.StringVar(&e.PeerCert, "etcd-peer-cert-file", "", "embedded etcd: certificate among members")
	fs.StringVar(&e.PeerKey, "etcd-peer-key-file", "", "embedded etcd: key among members")
	fs.StringVar(&e.PeerCA, "etcd-peer-ca-file", "", "embedded etcd: CA of the members")
	fs.StringVar(&e.InitialCluster, "etcd-initial-cluster", "", "embedded etcd: name=url of every member at the start; empty is this one alone")
	fs.StringVar(&e.ClusterState, "etcd-initial-cluster-state", e.ClusterState, "embedded etcd: new or existing")
	fs.BoolVar(&e.UnsafeNoFsync, "etcd-unsafe-no-fsync", false, "embedded etcd: do not sync to disk; for tests and benchmarks, loses data on a crash")
}

func (c *Config) addIdentity(set *options.Set) {
	fs, h, sa := set.Flags(), &c.RequestHeader, &c.ServiceAccount
	fs.StringVar(&c.ClientCAFile, "client-ca-file", "", "PEM file with the CAs that sign client certificates")
	fs.StringVar(&c.TokenAuthFile, "token-auth-file", "", "CSV file of static tokens: token,user,uid,\"groups\"")
	fs.BoolVar(&c.AnonymousAuth, "anonymous-auth", c.AnonymousAuth, "admit requests without credentials to authorization, as system:anonymous")
	fs.BoolVar(&c.BootstrapTokens, "enable-bootstrap-token-auth", false, "accept bootstrap tokens, secrets of kube-system")
	fs.StringVar(&h.ClientCAFile, "requestheader-client-ca-file", "", "CA of front proxies")
	fs.StringSliceVar(&h.AllowedNames, "requestheader-allowed-names", nil, "common names of front proxies; empty is any")
	fs.StringSliceVar(&h.Username, "requestheader-username-headers", []string{"x-remote-user"}, "headers with the user's name")
	fs.StringSliceVar(&h.UID, "requestheader-uid-headers", nil, "headers with the user's UID")
	fs.StringSliceVar(&h.Group, "requestheader-group-headers", []string{"x-remote-group"}, "headers with the user's groups")
	fs.StringSliceVar(&h.ExtraPrefixes, "requestheader-extra-headers-prefix", []string{"x-remote-extra-"}, "prefixes of headers with extra attributes")
	fs.StringArrayVar(&sa.Issuers, "service-account-issuer", nil, "issuer of service-account tokens; the first issues, all are accepted")
	fs.StringArrayVar(&sa.KeyFiles, "service-account-key-file", nil, "PEM file with keys that verify service-account tokens")
	fs.StringVar(&sa.SigningKeyFile, "service-account-signing-key-file", "", "PEM file with the key that signs service-account tokens")
	fs.StringVar(&sa.JWKSURI, "service-account-jwks-uri", "", "where the token keys are published")
	fs.DurationVar(&sa.MaxExpiration, "service-account-max-token-expiration", 0, "longest life of a token; 0 is no bound")
	fs.BoolVar(&sa.Extend, "service-account-extend-token-expiration", sa.Extend, "let injected tokens live a year, for clients that do not reload them")
	fs.BoolVar(&sa.Lookup, "service-account-lookup", sa.Lookup, "refuse tokens of service accounts that are gone")
	fs.StringSliceVar(&c.APIAudiences, "api-audiences", nil, "audiences that tokens for this API have")
	fs.StringSliceVar(&c.EnableAdmission, "enable-admission-plugins", nil, "admission plugins beside the default ones")
	fs.StringSliceVar(&c.DisableAdmission, "disable-admission-plugins", nil, "default admission plugins to leave out")
	fs.StringVar(&c.AdmissionConfig, "admission-control-config-file", "", "file with the AdmissionConfiguration: what plugins such as PodSecurity are configured by")
	fs.Int64Var(&c.NotReadyToleration, "default-not-ready-toleration-seconds", c.NotReadyToleration, "seconds that pods tolerate a node that is not ready")
	fs.Int64Var(&c.UnreachableTolerance, "default-unreachable-toleration-seconds", c.UnreachableTolerance, "seconds that pods tolerate an unreachable node")
}

func (c *Config) addCluster(set *options.Set) {
	fs := set.Flags()
	fs.StringVar(&c.KubeletCA, "kubelet-certificate-authority", "", "CA of the kubelets' serving certificates; without it they are not checked")
	fs.StringVar(&c.KubeletClientCert, "kubelet-client-certificate", "", "client certificate for kubelets")
	fs.StringVar(&c.KubeletClientKey, "kubelet-client-key", "", "client key for kubelets")
	fs.StringSliceVar(&c.KubeletAddressTypes, "kubelet-preferred-address-types", c.KubeletAddressTypes, "kinds of node address to reach kubelets at, in order")
	fs.StringVar(&c.ProxyClientCert, "proxy-client-cert-file", "", "client certificate for aggregated API servers")
	fs.StringVar(&c.ProxyClientKey, "proxy-client-key-file", "", "client key for aggregated API servers")
	fs.BoolVar(&c.AggregatorRouting, "enable-aggregator-routing", false, "reach webhooks and aggregated API servers at their endpoints, not at the service's address")
	fs.StringVar(&c.ServiceIPRange, "service-cluster-ip-range", c.ServiceIPRange, "CIDR of service addresses, or two of different families")
	fs.StringVar(&c.NodePortRange, "service-node-port-range", c.NodePortRange, "ports for services of type NodePort")
	fs.IntVar(&c.ServiceNodePort, "kubernetes-service-node-port", 0, "node port of the kubernetes service; 0 makes it a ClusterIP")
	fs.StringVar(&c.EndpointReconciler, "endpoint-reconciler-type", c.EndpointReconciler, "who keeps the endpoints of the kubernetes service: lease, by which they are all servers that serve, or none")
	fs.BoolVar(&c.AllowPrivileged, "allow-privileged", false, "let pods have privileged containers")
	c.Features = FeatureGates{}
	fs.Var(c.Features, "feature-gates", "feature gates of v1.37, each =true or =false, with kube: before it or not; a gate is built as it is by default, and one that is set otherwise is told of in the log")
	c.Surface.Config = map[string]string{}
	fs.Var(runtimeConfig(c.Surface.Config), "runtime-config", "built-in resources to serve or not, each =true or =false: api/all, api/ga, api/beta, api/alpha, GROUP/VERSION, GROUP/VERSION/RESOURCE")
	fs.StringSliceVar(&c.EmulatedVersion, "emulated-version", nil, "version whose resources are served, as [kube=]1.36: what came later is not; up to three minor versions back")
	fs.StringSliceVar(&c.MinCompatibility, "min-compatibility-version", nil, "oldest version that other servers of the cluster are of, as [kube=]1.36")
	fs.DurationVar(&c.EventTTL, "event-ttl", c.EventTTL, "how long events are kept")
}

// addInert registers what upstream has and this server does not act on.
func addInert(set *options.Set) {
	for why, flags := range inert() {
		for kind, list := range map[options.InertKind][]string{options.InertString: flags.text, options.InertBool: flags.bools} {
			for _, text := range list {
				name, value, _ := strings.Cut(text, "=")
				set.Inert(name, kind, why)
				if value != "" {
					set.Flags().Lookup(name).DefValue = value
				}
			}
		}
	}
}

// inertFlags are names, with =DEFAULT where there is one.
type inertFlags struct{ text, bools []string }

// refused are upstream's flags for what is not served: to accept one and do
// nothing would be unsafe, so that giving one is an error.
func refused() []string {
	return []string{"service-account-signing-endpoint", "etcd-servers-overrides", "egress-selector-config-file"}
}

// inert lists upstream's flags by why they do nothing here, with upstream's defaults.
func inert() map[string]inertFlags {
	return map[string]inertFlags{
		"the watch cache is always on and sizes itself": {
			text:  []string{"watch-cache-sizes", "delete-collection-workers=1", "lease-reuse-duration-seconds=60", "storage-initialization-timeout=1m0s"},
			bools: []string{"watch-cache=true", "enable-garbage-collector=true"},
		},
		"etcd is asked when somebody asks": {
			text: []string{"etcd-count-metric-poll-period=1m0s", "etcd-db-metric-poll-interval=30s", "etcd-healthcheck-timeout=2s", "etcd-readycheck-timeout=2s"},
		},
		"versions are those of v1.37": {
			text:  []string{"show-hidden-metrics-for-version"},
			bools: []string{"emulation-forward-compatible", "runtime-config-emulation-forward-compatible"},
		},
		"it goes with another option, which is refused": {
			text: []string{"admission-control"},
		},
		"connections are bounded otherwise": {
			text: []string{"max-connection-bytes-per-sec", "kubelet-timeout=5s"},
		},
		"logs go to standard error": {
			text:  []string{"log-flush-frequency=5s", "log-json-info-buffer-size", "log-text-info-buffer-size", "vmodule"},
			bools: []string{"log-json-split-stream", "log-text-split-stream", "enable-logs-handler"},
		},
		"metrics are those that are registered": {
			text: []string{"allow-metric-labels", "allow-metric-labels-manifest", "disabled-metrics"},
		},
		"the socket is an ordinary one": {
			bools: []string{"permit-address-sharing", "permit-port-sharing"},
		},
		"/livez does not wait for what the start has to do": {
			text: []string{"livez-grace-period"},
		},
		"servers pass no requests on to each other": {
			text:  []string{"peer-advertise-ip", "peer-advertise-port", "peer-ca-file", "coordinated-leadership-lease-duration=15s", "coordinated-leadership-renew-deadline=10s", "coordinated-leadership-retry-period=2s"},
			bools: []string{"aggregator-reject-forwarding-redirect=true"},
		},
	}
}
