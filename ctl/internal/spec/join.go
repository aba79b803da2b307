package spec

import (
	"errors"
	"fmt"
	"net"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
)

// Complete applies flags and defaults, and validates. Every problem is in the error.
func (j *JoinConfiguration) Complete(node, socket string, ignore, skip []string, m Machine) error {
	j.TypeMeta = metav1.TypeMeta{APIVersion: APIVersion, Kind: "JoinConfiguration"}
	over(&j.NodeRegistration.Name, node, m.Hostname)
	over(&j.NodeRegistration.CRISocket, socket, "")
	over(&j.CACertPath, "", "/etc/kubernetes/pki/ca.crt")
	j.NodeRegistration.IgnorePreflightErrors = append(j.NodeRegistration.IgnorePreflightErrors, ignore...)
	j.SkipPhases = append(j.SkipPhases, skip...)
	t := j.Discovery.BootstrapToken
	if t != nil {
		over(&j.Discovery.TLSBootstrapToken, "", t.Token)
	}
	var errs []error
	if problems := validation.IsDNS1123Subdomain(j.NodeRegistration.Name); len(problems) > 0 {
		errs = append(errs, fmt.Errorf("nodeRegistration.name: %q: %s", j.NodeRegistration.Name, problems[0]))
	}
	switch {
	case t == nil && j.Discovery.File == nil:
		errs = append(errs, errors.New("discovery: give the API server as HOST:PORT and --token, or --discovery-file"))
	case t != nil && j.Discovery.File != nil:
		errs = append(errs, errors.New("discovery: bootstrapToken and file exclude each other"))
	case t != nil:
		if err := ValidToken(t.Token); err != nil {
			errs = append(errs, err)
		}
		if _, _, err := net.SplitHostPort(t.APIServerEndpoint); err != nil {
			errs = append(errs, fmt.Errorf("discovery.bootstrapToken.apiServerEndpoint: %q is not HOST:PORT", t.APIServerEndpoint))
		}
		if len(t.CACertHashes) == 0 && !t.UnsafeSkipCAVerification {
			errs = append(errs, errors.New("discovery: without --discovery-token-ca-cert-hash the cluster cannot be told from an impostor; give it, or --discovery-token-unsafe-skip-ca-verification"))
		}
		for _, h := range t.CACertHashes {
			if !strings.HasPrefix(h, "sha256:") || len(h) != len("sha256:")+64 {
				errs = append(errs, fmt.Errorf("discovery.bootstrapToken.caCertHashes: %q is not sha256: and 64 hexadecimal digits", h))
			}
		}
	}
	return errors.Join(errs...)
}
