package serving

import (
	"fmt"
	"net"
	"strings"

	"github.com/spf13/pflag"
)

// Options are the flags of a component's secure port, with upstream's names.
type Options struct {
	BindAddress net.IP
	// Port is the TCP port, 0 to serve nothing.
	Port int
	// CertFile and KeyFile are PEM files, read again when they change. Both
	// empty means a self-signed certificate, kept in CertDir where that is set.
	CertFile, KeyFile string
	CertDir           string
	// ClientCAFile holds the CAs of client certificates.
	ClientCAFile string
	// AuthenticationKubeconfig and AuthorizationKubeconfig reach the API
	// server that reviews tokens and access. Empty means that anonymous is the
	// only identity, and only AlwaysAllowPaths are served.
	AuthenticationKubeconfig string
	AuthorizationKubeconfig  string
	// SkipLookup leaves out the CA in kube-system/extension-apiserver-authentication.
	SkipLookup bool
	// TolerateLookupFailure goes on without that CA where it cannot be read.
	TolerateLookupFailure bool
	// AlwaysAllowPaths are served without authorization.
	AlwaysAllowPaths []string
	TLSMinVersion    string
	CipherSuites     []string
}

// DefaultOptions are upstream's for the scheduler and controller manager.
func DefaultOptions(port int) Options {
	return Options{
		BindAddress: net.IPv4zero, Port: port,
		AlwaysAllowPaths: []string{"/healthz", "/readyz", "/livez"},
	}
}

// AddFlags registers the flags.
func (o *Options) AddFlags(fs *pflag.FlagSet) {
	fs.IPVar(&o.BindAddress, "bind-address", o.BindAddress, "address of the secure port; 0.0.0.0 or :: for all")
	fs.IntVar(&o.Port, "secure-port", o.Port, "port served with TLS, authentication and authorization; 0 serves nothing")
	fs.StringVar(&o.CertFile, "tls-cert-file", o.CertFile, "PEM file with the serving certificate; without it one is self-signed")
	fs.StringVar(&o.KeyFile, "tls-private-key-file", o.KeyFile, "PEM file with the serving key")
	fs.StringVar(&o.CertDir, "cert-dir", o.CertDir, "folder for the self-signed certificate; empty keeps it in memory")
	fs.StringVar(&o.ClientCAFile, "client-ca-file", o.ClientCAFile, "PEM file with the CAs that sign client certificates")
	fs.StringVar(&o.AuthenticationKubeconfig, "authentication-kubeconfig", o.AuthenticationKubeconfig, "kubeconfig of the API server that reviews tokens")
	fs.StringVar(&o.AuthorizationKubeconfig, "authorization-kubeconfig", o.AuthorizationKubeconfig, "kubeconfig of the API server that reviews access")
	fs.BoolVar(&o.SkipLookup, "authentication-skip-lookup", o.SkipLookup, "do not read missing client CAs from the cluster")
	fs.BoolVar(&o.TolerateLookupFailure, "authentication-tolerate-lookup-failure", o.TolerateLookupFailure, "go on where the cluster's client CA cannot be read")
	fs.StringSliceVar(&o.AlwaysAllowPaths, "authorization-always-allow-paths", o.AlwaysAllowPaths, "HTTP paths that are served without authorization")
	fs.StringVar(&o.TLSMinVersion, "tls-min-version", o.TLSMinVersion, "least TLS version: VersionTLS12 (the default) or VersionTLS13")
	fs.StringSliceVar(&o.CipherSuites, "tls-cipher-suites", o.CipherSuites, "cipher suites for TLS 1.2; without it Go's defaults")
}

// Validate returns what is wrong with the options, naming the flag.
func (o Options) Validate() error {
	switch {
	case o.Port < 0 || o.Port > 65535:
		return fmt.Errorf("--secure-port: %d is not in 0 to 65535", o.Port)
	case (o.CertFile == "") != (o.KeyFile == ""):
		return fmt.Errorf("--tls-cert-file and --tls-private-key-file go together: give both or none")
	}
	if _, err := tlsVersion(o.TLSMinVersion); err != nil {
		return err
	}
	_, err := cipherSuites(o.CipherSuites)
	return err
}

// allowed says whether a path is served without authorization. A path that
// ends in "*" allows all it is a prefix of.
func allowed(paths []string, path string) bool {
	for _, p := range paths {
		if prefix, ok := strings.CutSuffix(p, "*"); ok && strings.HasPrefix(path, prefix) {
			return true
		}
		if p == path {
			return true
		}
	}
	return false
}
