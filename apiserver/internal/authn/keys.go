package authn

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/url"
	"os"
	"slices"

	jose "github.com/go-jose/go-jose/v4"
)

// PublicKey verifies tokens.
type PublicKey struct {
	ID  string // the key ID upstream derives: base64url of the SHA-256 of the key's DER form
	Alg jose.SignatureAlgorithm
	Key crypto.PublicKey
}

// LoadPublicKeys reads the keys of --service-account-key-file: PEM blocks of public keys, certificates or private keys.
func LoadPublicKeys(files []string) ([]PublicKey, error) {
	var out []PublicKey
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		keys, err := parseKeys(data)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		for _, k := range keys {
			if private, ok := k.(crypto.Signer); ok {
				k = private.Public()
			}
			pk, err := publicKey(k)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", file, err)
			}
			out = append(out, pk)
		}
	}
	return out, nil
}

func publicKey(k crypto.PublicKey) (PublicKey, error) {
	der, err := x509.MarshalPKIXPublicKey(k)
	if err != nil {
		return PublicKey{}, fmt.Errorf("serialize public key: %w", err)
	}
	sum := sha256.Sum256(der)
	pk := PublicKey{ID: base64.RawURLEncoding.EncodeToString(sum[:]), Key: k}
	switch key := k.(type) {
	case *rsa.PublicKey:
		pk.Alg = jose.RS256
	case *ecdsa.PublicKey:
		switch key.Curve {
		case elliptic.P256():
			pk.Alg = jose.ES256
		case elliptic.P384():
			pk.Alg = jose.ES384
		case elliptic.P521():
			pk.Alg = jose.ES512
		default:
			return PublicKey{}, fmt.Errorf("unknown private key curve, must be 256, 384, or 521")
		}
	default:
		return PublicKey{}, fmt.Errorf("unknown key type %T, must be RSA or ECDSA", k)
	}
	return pk, nil
}

// parseKeys returns the keys of all PEM blocks it understands.
func parseKeys(data []byte) ([]any, error) {
	var out []any
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			break
		}
		if k := parseKey(block); k != nil {
			out = append(out, k)
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("data does not contain any valid RSA or ECDSA keys")
	}
	return out, nil
}

func parseKey(b *pem.Block) any {
	if k, err := x509.ParsePKCS1PrivateKey(b.Bytes); err == nil {
		return k
	}
	if k, err := x509.ParseECPrivateKey(b.Bytes); err == nil {
		return k
	}
	if k, err := x509.ParsePKCS8PrivateKey(b.Bytes); err == nil {
		return k
	}
	if k, err := x509.ParsePKIXPublicKey(b.Bytes); err == nil {
		return k
	}
	if k, err := x509.ParsePKCS1PublicKey(b.Bytes); err == nil {
		return k
	}
	if c, err := x509.ParseCertificate(b.Bytes); err == nil {
		return c.PublicKey
	}
	return nil
}

// LoadSigner reads the private key of --service-account-signing-key-file.
func LoadSigner(file string) (jose.Signer, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	keys, err := parseKeys(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	private, ok := keys[0].(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("%s: no private key", file)
	}
	pk, err := publicKey(private.Public())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	jwk := &jose.JSONWebKey{Algorithm: string(pk.Alg), Key: private, KeyID: pk.ID, Use: "sig"}
	return jose.NewSigner(jose.SigningKey{Algorithm: pk.Alg, Key: jwk}, nil)
}

// Discovery is what relying parties read to verify our tokens.
type Discovery struct {
	Configuration []byte // /.well-known/openid-configuration, application/json
	JWKS          []byte // /openid/v1/jwks, application/jwk-set+json
}

// NewDiscovery builds the documents. issuer must be an https URL without query and fragment; jwksURI is, if empty,
// https://externalAddress/openid/v1/jwks. A cluster whose issuer is no such URL serves no documents.
func NewDiscovery(issuer, jwksURI, externalAddress string, keys []PublicKey) (*Discovery, error) {
	u, err := url.Parse(issuer)
	switch {
	case err != nil:
		return nil, err
	case u.Scheme != "https":
		return nil, fmt.Errorf("issuer URL must use https scheme, got: %s", issuer)
	case u.RawQuery != "":
		return nil, fmt.Errorf("issuer URL may not include a query, got: %s", issuer)
	case u.Fragment != "":
		return nil, fmt.Errorf("issuer URL may not include a fragment, got: %s", issuer)
	case len(keys) == 0:
		return nil, fmt.Errorf("no keys provided for validating keyset")
	}
	if jwksURI == "" {
		jwksURI = (&url.URL{Scheme: "https", Host: externalAddress, Path: "/openid/v1/jwks"}).String()
	}
	if j, err := url.Parse(jwksURI); err != nil || j.Scheme != "https" {
		return nil, fmt.Errorf("jwksURI requires https scheme, got: %s", jwksURI)
	}
	var set jose.JSONWebKeySet
	var algs []string
	for _, k := range keys {
		set.Keys = append(set.Keys, jose.JSONWebKey{Algorithm: string(k.Alg), Key: k.Key, KeyID: k.ID, Use: "sig"})
		algs = append(algs, string(k.Alg))
	}
	slices.Sort(algs)
	conf := struct {
		Issuer        string   `json:"issuer"`
		JWKSURI       string   `json:"jwks_uri"`
		ResponseTypes []string `json:"response_types_supported"`
		SubjectTypes  []string `json:"subject_types_supported"`
		SigningAlgs   []string `json:"id_token_signing_alg_values_supported"`
	}{issuer, jwksURI, []string{"id_token"}, []string{"public"}, slices.Compact(algs)}
	d := &Discovery{}
	if d.Configuration, err = json.Marshal(conf); err != nil {
		return nil, err
	}
	d.JWKS, err = json.Marshal(set)
	return d, err
}
