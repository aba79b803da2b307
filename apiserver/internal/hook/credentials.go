package hook

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"
	"k8s.io/client-go/transport"
)

// Credentials are by what webhooks recognize this server: the users of a kubeconfig, named after the hosts of the webhooks. See
// https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/#authenticate-apiservers.
type Credentials struct{ config *api.Config }

// ReadCredentials reads a kubeconfig.
func ReadCredentials(path string) (*Credentials, error) {
	c, err := clientcmd.LoadFromFile(path)
	if err != nil {
		return nil, err
	}
	if err := clientcmd.ResolveLocalPaths(c); err != nil {
		return nil, err
	}
	return &Credentials{c}, nil
}

// user is whom to be at a host with its port: the user of its name, of a "*." before what is left of it, the same without a port of 443, the user "*", or
// that of the current context; nil for nobody.
func (c *Credentials) user(host string) *api.AuthInfo {
	if c == nil {
		return nil
	}
	names := []string{host}
	if name, port, err := net.SplitHostPort(host); err == nil && port == "443" {
		names = append(names, name)
	}
	for _, name := range names {
		if u := c.config.AuthInfos[name]; u != nil {
			return u
		}
		for rest := name; ; {
			var ok bool
			if _, rest, ok = strings.Cut(rest, "."); !ok {
				break
			}
			if u := c.config.AuthInfos["*."+rest]; u != nil {
				return u
			}
		}
	}
	if u := c.config.AuthInfos["*"]; u != nil {
		return u
	}
	if current := c.config.Contexts[c.config.CurrentContext]; current != nil {
		return c.config.AuthInfos[current.AuthInfo]
	}
	return nil
}

// wrap has a transport's requests to a host carry the credentials.
func (c *Credentials) wrap(host string, t *http.Transport) (http.RoundTripper, error) {
	u := c.user(host)
	if u == nil {
		return t, nil
	}
	cfg, err := configOf(u)
	if err != nil {
		return nil, err
	}
	tc, err := cfg.TransportConfig()
	if err != nil {
		return nil, err
	}
	own, err := transport.TLSConfigFor(tc)
	if err != nil {
		return nil, err
	}
	if own != nil {
		t.TLSClientConfig.Certificates, t.TLSClientConfig.GetClientCertificate = own.Certificates, own.GetClientCertificate
	}
	return transport.HTTPWrappersForConfig(tc, t)
}

func configOf(u *api.AuthInfo) (*rest.Config, error) {
	if u.AuthProvider != nil {
		return nil, errors.New("auth provider not supported")
	}
	cfg := &rest.Config{
		BearerToken: u.Token, BearerTokenFile: u.TokenFile, Username: u.Username, Password: u.Password, ExecProvider: u.Exec,
		TLSClientConfig: rest.TLSClientConfig{CertFile: u.ClientCertificate, CertData: u.ClientCertificateData, KeyFile: u.ClientKey, KeyData: u.ClientKeyData},
	}
	if u.Token == "" && u.TokenFile != "" {
		data, err := os.ReadFile(u.TokenFile)
		if err != nil {
			return nil, err
		}
		cfg.BearerToken = string(data)
	}
	if u.Impersonate != "" {
		cfg.Impersonate = rest.ImpersonationConfig{UserName: u.Impersonate, UID: u.ImpersonateUID, Groups: u.ImpersonateGroups, Extra: u.ImpersonateUserExtra}
	}
	return cfg, nil
}

// hostOf is the host and port that a URL's credentials go by.
func hostOf(address string) (string, error) {
	u, err := url.Parse(address)
	if err != nil {
		return "", fmt.Errorf("unparsable URL: %w", err)
	}
	if u.Port() == "" {
		return net.JoinHostPort(u.Hostname(), "443"), nil
	}
	return u.Host, nil
}
