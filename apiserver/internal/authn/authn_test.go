package authn

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

var errNotFound = errors.New("not found")

type objects struct {
	sa      *corev1.ServiceAccount
	pod     *corev1.Pod
	secrets map[string]*corev1.Secret
	node    *corev1.Node
}

func orNotFound[T any](o *T) (*T, error) {
	if o == nil {
		return nil, errNotFound
	}
	return o, nil
}

func (o *objects) GetServiceAccount(context.Context, string, string) (*corev1.ServiceAccount, error) {
	return orNotFound(o.sa)
}

func (o *objects) GetPod(context.Context, string, string) (*corev1.Pod, error) {
	return orNotFound(o.pod)
}

func (o *objects) GetNode(context.Context, string) (*corev1.Node, error) { return orNotFound(o.node) }

func (o *objects) GetSecret(_ context.Context, _, name string) (*corev1.Secret, error) {
	return orNotFound(o.secrets[name])
}

func writeKey(t *testing.T) (file string) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, _ := x509.MarshalECPrivateKey(k)
	file = filepath.Join(t.TempDir(), "sa.key")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestServiceAccountTokens(t *testing.T) {
	key := writeKey(t)
	signer, err := LoadSigner(key)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := LoadPublicKeys([]string{key})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	clock := func() time.Time { return now }
	sa := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "sa", UID: "u1"}}
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p", UID: "u2"}}
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1", UID: "u3"}}
	issuer := &Issuer{Name: "https://k", Signer: signer, APIAudiences: []string{"api"}, ExtendExpiration: true, Now: clock}
	issue := func(spec TokenSpec) string {
		tok, err := issuer.Issue(spec)
		if err != nil {
			t.Fatal(err)
		}
		return tok.Token
	}
	podToken := issue(TokenSpec{ServiceAccount: sa, Pod: pod, Node: node, ExpirationSeconds: WarnOnlyExpirationSeconds})
	deleted := metav1.NewTime(now.Add(-time.Hour))
	for name, tc := range map[string]struct {
		token   string
		objects objects
		at      time.Duration
		auds    []string
		wantErr string
		want    map[string]string
	}{
		"pod":          {token: podToken, objects: objects{sa: sa, pod: pod}, want: map[string]string{PodNameKey: "p", PodUIDKey: "u2", NodeNameKey: "n1", NodeUIDKey: "u3"}},
		"extended":     {token: podToken, objects: objects{sa: sa, pod: pod}, at: 300 * 24 * time.Hour, want: map[string]string{PodNameKey: "p"}},
		"too old":      {token: podToken, objects: objects{sa: sa, pod: pod}, at: 366 * 24 * time.Hour, wantErr: "service account token has expired"},
		"pod gone":     {token: podToken, objects: objects{sa: sa}, wantErr: "service account token has been invalidated"},
		"account gone": {token: podToken, wantErr: "not found"},
		"account recreated": {
			token: podToken, objects: objects{sa: &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{UID: "other"}}, pod: pod},
			wantErr: "service account UID (other) does not match claim (u1)",
		},
		"pod deleted": {
			token:   podToken,
			objects: objects{sa: sa, pod: &corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: "u2", DeletionTimestamp: &deleted}}},
			wantErr: "service account token has been invalidated",
		},
		"node":           {token: issue(TokenSpec{ServiceAccount: sa, Node: node, ExpirationSeconds: 600}), objects: objects{sa: sa, node: node}, want: map[string]string{NodeNameKey: "n1"}},
		"node gone":      {token: issue(TokenSpec{ServiceAccount: sa, Node: node, ExpirationSeconds: 600}), objects: objects{sa: sa}, wantErr: "service account token has been invalidated"},
		"expired":        {token: issue(TokenSpec{ServiceAccount: sa, ExpirationSeconds: 600}), objects: objects{sa: sa}, at: time.Hour, wantErr: "service account token has expired"},
		"other audience": {token: issue(TokenSpec{ServiceAccount: sa, ExpirationSeconds: 600, Audiences: []string{"vault"}}), objects: objects{sa: sa}, wantErr: `token audiences ["vault"] is invalid for the target audiences ["api"]`},
		"review":         {token: issue(TokenSpec{ServiceAccount: sa, ExpirationSeconds: 600, Audiences: []string{"vault"}}), objects: objects{sa: sa}, auds: []string{"vault"}},
		"forged":         {token: podToken[:len(podToken)-8] + "AAAAAAAA", objects: objects{sa: sa, pod: pod}, wantErr: "error in cryptographic primitive"},
	} {
		t.Run(name, func(t *testing.T) {
			auth := &ServiceAccounts{
				Metrics: NewMetrics(prometheus.NewRegistry()), Issuers: []string{"https://k"}, Keys: keys, APIAudiences: []string{"api"}, Getter: &tc.objects,
				Now: func() time.Time { return now.Add(tc.at) },
			}
			ctx := t.Context()
			if tc.auds != nil {
				ctx = WithAudiences(ctx, tc.auds)
			}
			id, ok, err := auth.AuthenticateToken(ctx, tc.token)
			if tc.wantErr != "" {
				if ok || err == nil || !strings.Contains(err.Error(), tc.wantErr) {
					t.Fatalf("%v, %v", ok, err)
				}
				return
			}
			if err != nil || !ok || id.Name != "system:serviceaccount:ns:sa" {
				t.Fatalf("%+v, %v, %v", id, ok, err)
			}
			for k, v := range tc.want {
				if d := cmp.Diff([]string{v}, id.Extra[k]); d != "" {
					t.Errorf("%s: %s", k, d)
				}
			}
			if !strings.HasPrefix(id.Extra[CredentialIDKey][0], "JTI=") {
				t.Error(id.Extra)
			}
		})
	}
	if _, ok, err := (&ServiceAccounts{Issuers: []string{"https://other"}}).AuthenticateToken(t.Context(), podToken); ok || err != nil {
		t.Errorf("a stranger's token: %v, %v", ok, err)
	}
	d, err := NewDiscovery("https://k", "", "10.0.0.1:6443", keys)
	if err != nil || !strings.Contains(string(d.Configuration), `"jwks_uri":"https://10.0.0.1:6443/openid/v1/jwks"`) || !strings.Contains(string(d.JWKS), keys[0].ID) {
		t.Errorf("%v, %s, %s", err, d.Configuration, d.JWKS)
	}
}

func TestBootstrapTokens(t *testing.T) {
	secret := func(change func(map[string][]byte)) *corev1.Secret {
		data := map[string][]byte{
			"token-id": []byte("abcdef"), "token-secret": []byte("0123456789abcdef"), "usage-bootstrap-authentication": []byte("true"),
			"auth-extra-groups": []byte("system:bootstrappers:kubeadm:default-node-token"), "expiration": []byte("2999-01-01T00:00:00Z"),
		}
		change(data)
		return &corev1.Secret{Type: corev1.SecretTypeBootstrapToken, Data: data}
	}
	for name, tc := range map[string]struct {
		token  string
		secret *corev1.Secret
		want   *Identity
	}{
		"good": {
			"abcdef.0123456789abcdef", secret(func(map[string][]byte) {}),
			&Identity{Name: "system:bootstrap:abcdef", Groups: []string{"system:bootstrappers", "system:bootstrappers:kubeadm:default-node-token"}},
		},
		"expired":   {"abcdef.0123456789abcdef", secret(func(d map[string][]byte) { d["expiration"] = []byte("2001-01-01T00:00:00Z") }), nil},
		"wrong":     {"abcdef.0123456789abcdee", secret(func(map[string][]byte) {}), nil},
		"unusable":  {"abcdef.0123456789abcdef", secret(func(d map[string][]byte) { delete(d, "usage-bootstrap-authentication") }), nil},
		"bad group": {"abcdef.0123456789abcdef", secret(func(d map[string][]byte) { d["auth-extra-groups"] = []byte("system:masters") }), nil},
		"no secret": {"abcdef.0123456789abcdef", nil, nil},
		"no token":  {"abc", nil, nil},
	} {
		o := &objects{secrets: map[string]*corev1.Secret{}}
		if tc.secret != nil {
			o.secrets["bootstrap-token-abcdef"] = tc.secret
		}
		id, ok, err := (&BootstrapTokens{Getter: o}).AuthenticateToken(t.Context(), tc.token)
		if ok != (tc.want != nil) || err != nil {
			t.Errorf("%s: %v %v", name, ok, err)
		} else if d := cmp.Diff(tc.want, id); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
}

// authority makes a CA file and a certificate it signed.
func authority(t *testing.T, cn string, orgs ...string) (*CAFile, *x509.Certificate) {
	key, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, ca, ca, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "ca.crt")
	_ = os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600)
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: cn, Organization: orgs}, NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	if der, err = x509.CreateCertificate(rand.Reader, leaf, ca, &key.PublicKey, key); err != nil {
		t.Fatal(err)
	}
	cert, _ := x509.ParseCertificate(der)
	f, err := LoadCAFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return f, cert
}

func TestCertificatesAndFrontProxy(t *testing.T) {
	ca, admin := authority(t, "admin", "system:masters")
	proxyCA, proxy := authority(t, "front-proxy-client")
	reg := prometheus.NewRegistry()
	m := NewMetrics(reg)
	chain := FailOnError{
		Chain: Chain{
			FrontProxy{
				CA: proxyCA, AllowedNames: []string{"front-proxy-client"}, UsernameHeaders: []string{"X-Remote-User"},
				GroupHeaders: []string{"X-Remote-Group"}, UIDHeaders: []string{"X-Remote-Uid"}, ExtraHeaderPrefixes: []string{"X-Remote-Extra-"},
			},
			Certificates{CA: ca, Metrics: m},
			Bearer{Tokens: Tokens{}},
		},
		Anonymous: AnonymousAuthenticator{},
	}
	do := func(cert *x509.Certificate, headers ...string) (*Identity, bool, error) {
		req := httptest.NewRequest(http.MethodGet, "/", nil)
		req.TLS = &tls.ConnectionState{}
		if cert != nil {
			req.TLS.PeerCertificates = []*x509.Certificate{cert}
		}
		for i := 0; i < len(headers); i += 2 {
			req.Header.Add(headers[i], headers[i+1])
		}
		return chain.Authenticate(req)
	}
	id, ok, err := do(admin)
	if err != nil || !ok || id.Name != "admin" || !id.InGroup("system:masters") || !id.InGroup(AllAuthenticated) ||
		!strings.HasPrefix(id.Extra[CredentialIDKey][0], "X509SHA256=") {
		t.Errorf("%+v %v %v", id, ok, err)
	}
	id, _, err = do(proxy, "X-Remote-User", "jane", "X-Remote-Group", "dev", "X-Remote-Extra-Scopes%2fa", "v")
	want := &Identity{Name: "jane", Groups: []string{"dev", AllAuthenticated}, Extra: map[string][]string{"scopes/a": {"v"}}}
	if d := cmp.Diff(want, id); d != "" || err != nil {
		t.Error(d, err)
	}
	if id, _, _ = do(admin, "X-Remote-User", "root"); id == nil || id.Name != "admin" {
		t.Errorf("headers without the proxy's certificate: %+v", id)
	}
	if id, _, _ = do(nil); id.Name != Anonymous {
		t.Errorf("%+v", id)
	}
	if _, ok, err = do(nil, "Authorization", "Bearer nonsense"); ok || err == nil || err.Error() != "invalid bearer token" {
		t.Errorf("%v, %v", ok, err)
	}
	if _, ok, err = do(proxy); ok || err == nil {
		t.Errorf("foreign certificate: %v, %v", ok, err)
	}
	// All three certificates that were not a proxy's have less than an hour left.
	families, _ := reg.Gather()
	for _, f := range families {
		if h := f.GetMetric()[0].GetHistogram(); f.GetName() == "apiserver_client_certificate_expiration_seconds" &&
			(h.GetSampleCount() != 3 || h.GetBucket()[1].GetCumulativeCount() != 0 || h.GetBucket()[2].GetCumulativeCount() != 3) {
			t.Error(h)
		}
	}
}

func TestWebSocketToken(t *testing.T) {
	file := filepath.Join(t.TempDir(), "tokens.csv")
	_ = os.WriteFile(file, []byte("tok,bob,7,\"a,b\"\nx,eve,8\n"), 0o600)
	tokens, err := LoadTokenFile(file)
	if err != nil {
		t.Fatal(err)
	}
	req := httptest.NewRequest(http.MethodGet, "/", nil)
	req.Header.Set("Upgrade", "websocket")
	req.Header.Set("Sec-WebSocket-Protocol", bearerProtocol+base64.RawURLEncoding.EncodeToString([]byte("tok"))+", v5.channel.k8s.io")
	id, ok, err := Bearer{Tokens: NewCache(tokens, TokenCacheTTL, 0, NewMetrics(prometheus.NewRegistry()))}.Authenticate(req)
	if !ok || err != nil || id.Name != "bob" || len(id.Groups) != 2 || req.Header.Get("Sec-WebSocket-Protocol") != "v5.channel.k8s.io" {
		t.Errorf("%+v %v %v %v", id, ok, err, req.Header)
	}
}

func TestImpersonate(t *testing.T) {
	for name, tc := range map[string]struct {
		headers http.Header
		want    *Identity
		err     string
	}{
		"none": {headers: http.Header{}},
		"user": {
			headers: http.Header{"Impersonate-User": {"jane"}, "Impersonate-Group": {"dev"}, "Impersonate-Uid": {"5"}, "Impersonate-Extra-Scope": {"v"}},
			want:    &Identity{Name: "jane", UID: "5", Groups: []string{"dev"}, Extra: map[string][]string{"scope": {"v"}}},
		},
		"group alone": {
			headers: http.Header{"Impersonate-Group": {"dev"}},
			err:     `requested &user.DefaultInfo{Name:"", UID:"", Groups:[]string{"dev"}, Extra:map[string][]string(nil)} without impersonating a user name`,
		},
	} {
		id, err := Impersonate(tc.headers)
		if (err != nil || tc.err != "") && (err == nil || err.Error() != tc.err) {
			t.Errorf("%s: %v, want %s", name, err, tc.err)
		}
		if d := cmp.Diff(tc.want, id); d != "" {
			t.Errorf("%s: %s", name, d)
		}
		if id != nil && len(tc.headers) > 0 {
			t.Errorf("%s: headers are left: %v", name, tc.headers)
		}
	}
}
