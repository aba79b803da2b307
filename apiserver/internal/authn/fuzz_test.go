package authn

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/request/bearertoken"
	"k8s.io/apiserver/pkg/authentication/request/websocket"
	"k8s.io/apiserver/pkg/authentication/user"
)

// said records the tokens it is asked about, and takes them all for one user's.
type said struct{ tokens []string }

func (s *said) AuthenticateToken(_ context.Context, token string) (*Identity, bool, error) {
	s.tokens = append(s.tokens, token)
	return &Identity{Name: "u"}, token != "bad", nil
}

// FuzzRequest wants of a request's headers the token that upstream's library finds.
func FuzzRequest(f *testing.F) {
	f.Add("Bearer abc", "", "")
	f.Add("  bearer   abc def", "websocket", "a")
	f.Add("", "WebSocket", "x, base64url.bearer.authorization.k8s.io."+base64.RawURLEncoding.EncodeToString([]byte("tok"))+",y")
	f.Add("Bearer bad", "websocket", "base64url.bearer.authorization.k8s.io.====")
	f.Fuzz(func(t *testing.T, header, upgrade, protocol string) {
		request := func() *http.Request {
			r := &http.Request{Header: http.Header{"Authorization": {header}, "Upgrade": {upgrade}, "Sec-Websocket-Protocol": {protocol}}}
			if upgrade != "" {
				r.Header.Set("Connection", "Upgrade")
			}
			return r
		}
		var theirs []string
		ask := authenticator.TokenFunc(func(_ context.Context, token string) (*authenticator.Response, bool, error) {
			theirs = append(theirs, token)
			return &authenticator.Response{User: &user.DefaultInfo{Name: "u"}}, token != "bad", nil
		})
		r := request()
		_, want, _ := bearertoken.New(ask).AuthenticateRequest(r)
		if len(theirs) == 0 {
			_, want, _ = websocket.NewProtocolAuthenticator(ask).AuthenticateRequest(r)
		}
		ours := &said{}
		q := request()
		_, got, _ := Bearer{Tokens: ours}.Authenticate(q)
		if got != want || cmp.Diff(theirs, ours.tokens) != "" {
			t.Fatalf("%q %q %q: %v by %q, upstream %v by %q", header, upgrade, protocol, got, ours.tokens, want, theirs)
		}
		if d := cmp.Diff(r.Header, q.Header); d != "" {
			t.Fatalf("%q %q %q leaves %s", header, upgrade, protocol, d)
		}
	})
}

// secrets has one Secret by any name.
type secrets struct{ *corev1.Secret }

func (s secrets) GetSecret(context.Context, string, string) (*corev1.Secret, error) {
	return s.Secret, nil
}

// FuzzToken wants that nobody is known by a token that was not issued.
func FuzzToken(f *testing.F) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	public, err := publicKey(key.Public())
	if err != nil {
		f.Fatal(err)
	}
	secret := &corev1.Secret{Type: corev1.SecretTypeBootstrapToken, Data: map[string][]byte{"token-id": []byte("abcdef"), "token-secret": []byte("0123456789abcdef"), "usage-bootstrap-authentication": []byte("true")}}
	tokens := Tokens{&BootstrapTokens{Getter: secrets{secret}}, &ServiceAccounts{Issuers: []string{"iss"}, Keys: []PublicKey{public}, APIAudiences: []string{"iss"}, Getter: &objects{}}}
	enc := base64.RawURLEncoding.EncodeToString
	f.Add("abcdef.0123456789abcdeg")
	f.Add(enc([]byte(`{"alg":"none"}`)) + "." + enc([]byte(`{"iss":"iss","sub":"system:serviceaccount:a:b"}`)) + ".")
	f.Add(enc([]byte(`{"alg":"ES256"}`)) + "." + enc([]byte(`{"iss":"kubernetes/serviceaccount","aud":["iss"]}`)) + "." + enc(make([]byte, 64)))
	f.Add("..")
	f.Fuzz(func(t *testing.T, token string) {
		id, ok, _ := tokens.AuthenticateToken(t.Context(), token)
		if ok && token != "abcdef.0123456789abcdef" {
			t.Fatalf("%q is %+v", token, id)
		}
	})
}
