package image

import (
	"encoding/base64"
	"encoding/json"
	"os"
	"path"
	"path/filepath"
	"sort"
	"strings"

	corev1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	kubeletv1beta1 "k8s.io/kubelet/config/v1beta1"
)

// defaultRegistry is where names without a registry go.
const defaultRegistry = "index.docker.io"

// Keyring holds registry credentials by pattern, most specific first.
type Keyring struct{ entries []keyEntry }

type keyEntry struct {
	pattern string // host[:port][/path], may hold wildcards in the host
	Credential
}

// Credential is what a registry is shown, and the secret that it stands in; Secret is nil for the node's own.
type Credential struct {
	Auth   *runtimeapi.AuthConfig
	Secret *kubeletv1beta1.ImagePullSecret
}

type authJSON struct {
	Username      string `json:"username"`
	Password      string `json:"password"`
	Auth          string `json:"auth"`
	IdentityToken string `json:"identitytoken"`
}

// NewKeyring reads pull secrets of both types; what cannot be read is skipped, as upstream does.
func NewKeyring(secrets []corev1.Secret) *Keyring {
	k := &Keyring{}
	for i := range secrets {
		s := &secrets[i]
		if raw, ok := s.Data[corev1.DockerConfigJsonKey]; ok && s.Type == corev1.SecretTypeDockerConfigJson {
			k.addConfig(raw, s)
		} else if raw, ok := s.Data[corev1.DockerConfigKey]; ok && s.Type == corev1.SecretTypeDockercfg {
			var m map[string]authJSON
			if json.Unmarshal(raw, &m) == nil {
				k.add(m, s)
			}
		}
	}
	k.sort()
	return k
}

// NodeKeyring reads the node's own credentials from the first docker configuration found in the folders.
func NodeKeyring(dirs ...string) *Keyring {
	k := &Keyring{}
	for _, d := range dirs {
		if raw, err := os.ReadFile(filepath.Join(d, "config.json")); err == nil {
			k.addConfig(raw, nil)
			break
		}
	}
	k.sort()
	return k
}

// With returns the keyring with another's entries after its own.
func (k *Keyring) With(other *Keyring) *Keyring {
	return &Keyring{entries: append(append([]keyEntry(nil), k.entries...), other.entries...)}
}

func (k *Keyring) addConfig(raw []byte, s *corev1.Secret) {
	var c struct {
		Auths map[string]authJSON `json:"auths"`
	}
	if json.Unmarshal(raw, &c) == nil {
		k.add(c.Auths, s)
	}
}

func (k *Keyring) add(m map[string]authJSON, s *corev1.Secret) {
	for server, a := range m {
		if a.Auth != "" && a.Username == "" {
			if dec, err := base64.StdEncoding.DecodeString(a.Auth); err == nil {
				a.Username, a.Password, _ = strings.Cut(string(dec), ":")
			} else if dec, err := base64.RawStdEncoding.DecodeString(a.Auth); err == nil {
				a.Username, a.Password, _ = strings.Cut(string(dec), ":")
			}
		}
		pattern := strings.TrimPrefix(strings.TrimPrefix(server, "https://"), "http://")
		pattern = strings.TrimSuffix(pattern, "/")
		for _, v := range []string{"/v1", "/v2"} {
			pattern = strings.TrimSuffix(pattern, v)
		}
		c := Credential{Auth: &runtimeapi.AuthConfig{Username: a.Username, Password: a.Password, IdentityToken: a.IdentityToken}}
		if s != nil {
			c.Secret = &kubeletv1beta1.ImagePullSecret{UID: string(s.UID), Namespace: s.Namespace, Name: s.Name, CredentialHash: credentialHash(a.Username, a.Password)}
		}
		k.entries = append(k.entries, keyEntry{pattern, c})
	}
}

func (k *Keyring) sort() {
	sort.SliceStable(k.entries, func(i, j int) bool { return k.entries[i].pattern > k.entries[j].pattern })
}

// Lookup returns the credentials that fit the image, the most specific first.
func (k *Keyring) Lookup(image string) []Credential {
	name := image
	first, _, slash := strings.Cut(image, "/")
	if !slash || (!strings.ContainsAny(first, ".:") && first != "localhost") {
		name = defaultRegistry + "/" + image
	} else if first == "docker.io" {
		name = defaultRegistry + strings.TrimPrefix(image, "docker.io")
	}
	host, rest, _ := strings.Cut(name, "/")
	var out []Credential
	for _, e := range k.entries {
		pHost, pPath, _ := strings.Cut(e.pattern, "/")
		if hostMatches(pHost, host) && strings.HasPrefix(rest, pPath) {
			out = append(out, e.Credential)
		}
	}
	return out
}

// hostMatches compares host names part by part, * standing for any text within one part; ports must be equal.
func hostMatches(pattern, host string) bool {
	pName, pPort, _ := strings.Cut(pattern, ":")
	name, port, _ := strings.Cut(host, ":")
	if pPort != port && !(pPort == "" && port == "") {
		return false
	}
	p, h := strings.Split(pName, "."), strings.Split(name, ".")
	if len(p) != len(h) {
		return false
	}
	for i := range p {
		if ok, err := path.Match(p[i], h[i]); err != nil || !ok {
			return false
		}
	}
	return true
}
