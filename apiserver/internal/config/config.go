// Package config is kube-apiserver's configuration: upstream's flags with
// upstream's defaults, and those of the embedded etcd.
//
// Data in: the command line. Data out: a validated Config. It owns no
// goroutine.
package config

import (
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"
	apiversion "k8s.io/apimachinery/pkg/version"

	"flagship/apiserver/internal/audit"
	"flagship/apiserver/internal/authzconfig"
	"flagship/apiserver/internal/oidc"
	"flagship/apiserver/internal/resource"
	"flagship/internal/logging"
	"flagship/internal/options"
)

// Config is everything that the command line sets.
type Config struct {
	Logging logging.Config

	AdvertiseAddress net.IP
	BindAddress      net.IP
	SecurePort       int
	CertDir          string
	TLSCertFile      string
	TLSKeyFile       string
	TLSMinVersion    string
	TLSCipherSuites  []string
	// TLSCurves are numbers of crypto/tls's curves, empty for all; HTTP1 serves no HTTP/2.
	TLSCurves        []int32
	HTTP1            bool
	ExternalHostname string

	Etcd Etcd
	// StorageBackend and StorageMediaType have one value each.
	StorageBackend, StorageMediaType string
	// Authentication is the file of --authentication-config, empty for none; OIDC is what takes its place.
	Authentication string
	OIDC           oidc.Flags
	// Audit says what is told of requests, and where.
	Audit audit.Config
	// EncryptionConfig is the file of the encryption at rest, empty for none.
	EncryptionConfig string
	ReloadEncryption bool

	ClientCAFile  string
	TokenAuthFile string
	AnonymousAuth bool
	// AnonymousGiven is whether a flag says AnonymousAuth, so that the authentication configuration may not.
	AnonymousGiven  bool
	BootstrapTokens bool
	RequestHeader   RequestHeader
	ServiceAccount  ServiceAccount
	APIAudiences    []string
	// Authorization is who decides about requests, and TokenWebhook the server outside that knows more tokens.
	Authorization    authzconfig.Flags
	TokenWebhook     TokenWebhook
	EnableAdmission  []string
	DisableAdmission []string
	// AdmissionConfig is the file of an AdmissionConfiguration, empty for none.
	AdmissionConfig      string
	NotReadyToleration   int64
	UnreachableTolerance int64

	KubeletCA           string
	KubeletClientCert   string
	KubeletClientKey    string
	KubeletAddressTypes []string
	ProxyClientCert     string
	ProxyClientKey      string
	// AggregatorRouting reaches services at their endpoints.
	AggregatorRouting bool

	ServiceIPRange  string
	ServiceRanges   []netip.Prefix
	NodePortRange   string
	FirstNodePort   int32
	LastNodePort    int32
	ServiceNodePort int
	// EndpointReconciler is who keeps the endpoints of the kubernetes service.
	EndpointReconciler string
	AllowPrivileged    bool
	EventTTL           time.Duration
	RequestTimeout     time.Duration
	MinRequestTimeout  int
	MaxInFlight        int
	MaxMutating        int
	// Fairness serves requests by priority and fairness.
	Fairness      bool
	ShutdownDelay time.Duration
	// WatchGrace is over how long the watches end then.
	WatchGrace time.Duration
	// ShutdownRetryAfter answers new requests of a shutdown with 429 until those in flight are over.
	ShutdownRetryAfter bool
	// CORS are the origins whose pages may call the API, as regular expressions, and Origins the same, compiled.
	CORS            []string
	Origins         []*regexp.Regexp
	StrictTransport []string
	GoawayChance    float64
	// ServerNames are certificates for names that clients ask for.
	ServerNames []string
	// TracingConfig is the file of a TracingConfiguration, empty for none.
	TracingConfig string
	// ContentionProfiling profiles blocking; DebugSocket is a path at which the profiles are served without authentication.
	ContentionProfiling bool
	DebugSocket         string
	EnableProfiling     bool
	// Surface is which resources are served; EmulatedVersion and MinCompatibility are [kube=]MAJOR.MINOR, and Version is what follows from them.
	Surface          resource.Surface
	EmulatedVersion  []string
	MinCompatibility []string
	Version          apiversion.Info
	MaxHTTP2Streams  int
	// Features is what --feature-gates asks for.
	Features FeatureGates
}

// TokenWebhook is the server outside that recognizes tokens.
type TokenWebhook struct {
	// File is its kubeconfig, empty for none.
	File    string
	Version string
	// TTL is how long its answers are kept.
	TTL time.Duration
}

// Etcd is the store: an external cluster, or the server in this process.
type Etcd struct {
	Servers                   []string
	CAFile, CertFile, KeyFile string
	Prefix                    string
	CompactionInterval        time.Duration

	// What follows is for the embedded server alone.
	DataDir, Name                   string
	ClientURL, PeerURL              string
	ServerCert, ServerKey, ServerCA string
	PeerCert, PeerKey, PeerCA       string
	InitialCluster, ClusterState    string
	UnsafeNoFsync                   bool
}

// RequestHeader is the front proxy's authentication.
type RequestHeader struct {
	ClientCAFile  string
	AllowedNames  []string
	Username      []string
	UID           []string
	Group         []string
	ExtraPrefixes []string
}

// ServiceAccount is how tokens are checked and issued.
type ServiceAccount struct {
	Issuers        []string
	KeyFiles       []string
	SigningKeyFile string
	JWKSURI        string
	MaxExpiration  time.Duration
	Extend         bool
	Lookup         bool
}

// Defaults are upstream's.
func Defaults() *Config {
	return &Config{
		BindAddress: net.IPv4zero, SecurePort: 6443, CertDir: "/var/run/kubernetes",
		Etcd: Etcd{
			Prefix: "/registry", CompactionInterval: 5 * time.Minute, DataDir: "/var/lib/etcd", Name: "default",
			ClientURL: "https://127.0.0.1:2379", PeerURL: "https://127.0.0.1:2380", ClusterState: "new",
		},
		Audit:              audit.NewConfig(),
		OIDC:               oidc.Flags{UsernameClaim: "sub", SigningAlgs: []string{"RS256"}},
		AnonymousAuth:      true,
		NotReadyToleration: 300, UnreachableTolerance: 300,
		ServiceAccount:      ServiceAccount{Extend: true, Lookup: true},
		KubeletAddressTypes: []string{"Hostname", "InternalDNS", "InternalIP", "ExternalDNS", "ExternalIP"},
		ServiceIPRange:      "10.0.0.0/24", NodePortRange: "30000-32767",
		EventTTL: time.Hour, RequestTimeout: time.Minute, MinRequestTimeout: 1800,
		EndpointReconciler: ReconcilerLease, StorageMediaType: mediaProtobuf,
		MaxInFlight: 400, MaxMutating: 200, Fairness: true, EnableProfiling: true, MaxHTTP2Streams: 100,
	}
}

// Who keeps the endpoints of the kubernetes service: all servers that hold a lease, or somebody else.
const (
	ReconcilerLease = "lease"
	ReconcilerNone  = "none"
)

// mediaProtobuf is how objects are stored.
const mediaProtobuf = "application/vnd.kubernetes.protobuf"

// Load reads the command line. Usage goes to out.
func Load(args []string, out io.Writer) (*Config, *options.Set, error) {
	c := Defaults()
	set := options.New("kube-apiserver")
	c.addFlags(set)
	if err := set.Parse(args, out); err != nil {
		return nil, nil, err
	}
	for _, name := range refused() {
		if f := set.Flags().Lookup(name); f.Changed && f.Value.String() != "" {
			return nil, nil, fmt.Errorf("--%s is not supported by this version: leave it out", name)
		}
	}
	set.Flags().Visit(func(f *pflag.Flag) { c.OIDC.Set = c.OIDC.Set || strings.HasPrefix(f.Name, "oidc-") })
	if err := c.Authorization.Complete(set.Flags()); err != nil {
		return nil, nil, err
	}
	c.AnonymousGiven = set.Flags().Changed("anonymous-auth")
	return c, set, c.validate()
}

func (c *Config) validate() error {
	if err := c.Audit.Validate(); err != nil {
		return err
	}
	if err := c.OIDC.Validate(); err != nil {
		return err
	}
	if c.Authentication != "" && c.OIDC.Set {
		return errors.New("authentication-config file and oidc-* flags are mutually exclusive")
	}
	var err error
	if c.Version, c.Surface.Emulated, err = c.effective(); err != nil {
		return err
	}
	if c.ServiceRanges, err = parseRanges(c.ServiceIPRange); err != nil {
		return err
	}
	if c.FirstNodePort, c.LastNodePort, err = parsePorts(c.NodePortRange); err != nil {
		return err
	}
	switch {
	case c.SecurePort < 1 || c.SecurePort > 65535:
		return fmt.Errorf("--secure-port: %d is not in 1 to 65535", c.SecurePort)
	case (c.TLSCertFile == "") != (c.TLSKeyFile == ""):
		return errors.New("--tls-cert-file and --tls-private-key-file go together: give both or none")
	case c.EndpointReconciler != ReconcilerLease && c.EndpointReconciler != ReconcilerNone:
		return fmt.Errorf("--endpoint-reconciler-type: %q is not lease or none; what master-count counts, lease finds out", c.EndpointReconciler)
	case c.StorageBackend != "" && c.StorageBackend != "etcd3":
		return fmt.Errorf("--storage-backend: %q is not etcd3", c.StorageBackend)
	case c.StorageMediaType != mediaProtobuf:
		return fmt.Errorf("--storage-media-type: %q is not %s: built-in objects are stored as protobuf alone", c.StorageMediaType, mediaProtobuf)
	case slices.ContainsFunc(c.TLSCurves, func(id int32) bool { return id <= 0 || id > math.MaxUint16 }):
		return fmt.Errorf("--tls-curve-preferences: %v has what is no number of a curve, 1 to 65535", c.TLSCurves)
	case c.EventTTL <= 0:
		return errors.New("--event-ttl: must be greater than zero")
	case c.RequestTimeout <= 0:
		return errors.New("--request-timeout: must be greater than zero")
	case c.GoawayChance < 0 || c.GoawayChance > 0.02:
		return errors.New("--goaway-chance can not be less than 0 or greater than 0.02")
	case c.MinRequestTimeout <= 0:
		return errors.New("--min-request-timeout: must be greater than zero")
	case len(c.ServiceAccount.Issuers) == 0:
		return errors.New("--service-account-issuer: is required")
	case c.ServiceAccount.SigningKeyFile == "":
		return errors.New("--service-account-signing-key-file: is required")
	case len(c.Etcd.Servers) == 0 && (c.Etcd.ServerCert == "" || c.Etcd.ServerKey == "" || c.Etcd.ServerCA == "") && strings.HasPrefix(c.Etcd.ClientURL, "https:"):
		return errors.New("--etcd-servers: give an etcd cluster, or --etcd-server-cert-file, --etcd-server-key-file and --etcd-server-ca-file for the embedded server")
	}
	if err := c.validateHeaders(); err != nil {
		return err
	}
	if c.AdvertiseAddress == nil {
		c.AdvertiseAddress = c.BindAddress
	}
	if c.AdvertiseAddress.IsUnspecified() {
		if c.AdvertiseAddress, err = hostAddress(); err != nil {
			return fmt.Errorf("--advertise-address: is needed: %w", err)
		}
	}
	if len(c.APIAudiences) == 0 {
		c.APIAudiences = c.ServiceAccount.Issuers[:1]
	}
	if len(c.ServiceAccount.KeyFiles) == 0 {
		c.ServiceAccount.KeyFiles = []string{c.ServiceAccount.SigningKeyFile}
	}
	if c.ExternalHostname == "" {
		c.ExternalHostname, _ = os.Hostname()
	}
	return nil
}

func parseRanges(text string) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, part := range strings.Split(text, ",") {
		p, err := netip.ParsePrefix(strings.TrimSpace(part))
		if err != nil {
			return nil, fmt.Errorf("--service-cluster-ip-range: %q is not a CIDR", part)
		}
		out = append(out, p.Masked())
	}
	if len(out) > 2 || len(out) == 2 && out[0].Addr().Is4() == out[1].Addr().Is4() {
		return nil, errors.New("--service-cluster-ip-range: want one CIDR, or one of each IP family")
	}
	return out, nil
}

func parsePorts(text string) (first, last int32, err error) {
	a, b, ok := strings.Cut(text, "-")
	lo, err1 := strconv.ParseUint(a, 10, 16)
	hi, err2 := strconv.ParseUint(b, 10, 16)
	if !ok || err1 != nil || err2 != nil || lo == 0 || hi < lo {
		return 0, 0, fmt.Errorf("--service-node-port-range: %q is not a range such as 30000-32767", text)
	}
	return int32(lo), int32(hi), nil //nolint:gosec // parsed as 16 bits
}

// hostAddress is the address of the first interface that is up and not the
// loopback.
func hostAddress() (net.IP, error) {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("read the host's addresses: %w", err)
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.IsGlobalUnicast() && n.IP.To4() != nil {
			return n.IP, nil
		}
	}
	return nil, errors.New("the host has no address but the loopback's")
}

// CertFile is where a self-signed serving certificate is kept.
func (c *Config) CertFile(name string) string { return filepath.Join(c.CertDir, name) }

// validateHeaders checks what browsers are told.
func (c *Config) validateHeaders() error {
	for _, d := range c.StrictTransport {
		key, _, hasValue := strings.Cut(d, "=")
		if d != "includeSubDomains" && d != "preload" && (key != "max-age" || !hasValue) {
			return errors.New("--strict-transport-security-directives invalid, allowed values: max-age=expireTime, includeSubDomains, preload. see https://tools.ietf.org/html/rfc6797#section-6.1 for more information")
		}
	}
	for _, text := range c.CORS {
		x, err := regexp.Compile(text)
		if err != nil {
			return fmt.Errorf("--cors-allowed-origins has an invalid regular expression: %w", err)
		}
		// One that any host could match a part of would let in all, CVE-2022-1996.
		if !(strings.Contains(text, "^") || strings.Contains(text, "//")) || !(strings.Contains(text, "$") || strings.Contains(text, ":")) {
			return errors.New("--cors-allowed-origins has an invalid regular expression: regular expression does not pin to start/end of host in the origin header")
		}
		c.Origins = append(c.Origins, x)
	}
	return nil
}
