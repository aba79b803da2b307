package tenancy

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"os"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"flagship/controller-manager/internal/loop"
)

// legacyClaims are what a token in a Secret says.
type legacyClaims struct {
	Issuer    string `json:"iss"`
	Namespace string `json:"kubernetes.io/serviceaccount/namespace"`
	Secret    string `json:"kubernetes.io/serviceaccount/secret.name"`
	Account   string `json:"kubernetes.io/serviceaccount/service-account.name"`
	UID       string `json:"kubernetes.io/serviceaccount/service-account.uid"`
	Subject   string `json:"sub"`
}

// signer signs tokens with the service account key.
type signer struct {
	key crypto.Signer
	alg string
	kid string
}

func loadSigner(file string) (*signer, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	block, rest := pem.Decode(data)
	if block != nil && block.Type == "EC PARAMETERS" {
		block, _ = pem.Decode(rest)
	}
	if block == nil {
		return nil, errors.New("no PEM block with a private key")
	}
	key, err := parseKey(block)
	if err != nil {
		return nil, err
	}
	s := &signer{key: key}
	switch k := key.(type) {
	case *rsa.PrivateKey:
		s.alg = "RS256"
	case *ecdsa.PrivateKey:
		if k.Curve.Params().BitSize != 256 {
			return nil, fmt.Errorf("curve %s is not supported: P-256 is", k.Curve.Params().Name)
		}
		s.alg = "ES256"
	default:
		return nil, fmt.Errorf("key type %T is not supported", key)
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(der)
	s.kid = base64.RawURLEncoding.EncodeToString(sum[:])
	return s, nil
}

func parseKey(b *pem.Block) (crypto.Signer, error) {
	if k, err := x509.ParsePKCS1PrivateKey(b.Bytes); err == nil {
		return k, nil
	}
	if k, err := x509.ParseECPrivateKey(b.Bytes); err == nil {
		return k, nil
	}
	k, err := x509.ParsePKCS8PrivateKey(b.Bytes)
	if err != nil {
		return nil, fmt.Errorf("parse private key: %w", err)
	}
	s, ok := k.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("key type %T cannot sign", k)
	}
	return s, nil
}

// jwt returns the signed claims in compact form (RFC 7519).
func (s *signer) jwt(claims any) (string, error) {
	header, err := json.Marshal(map[string]string{"alg": s.alg, "kid": s.kid})
	if err != nil {
		return "", err
	}
	body, err := json.Marshal(claims)
	if err != nil {
		return "", err
	}
	enc := base64.RawURLEncoding
	text := enc.EncodeToString(header) + "." + enc.EncodeToString(body)
	sum := sha256.Sum256([]byte(text))
	var sig []byte
	switch k := s.key.(type) {
	case *ecdsa.PrivateKey:
		r, v, err := ecdsa.Sign(rand.Reader, k, sum[:])
		if err != nil {
			return "", err
		}
		sig = make([]byte, 64)
		r.FillBytes(sig[:32])
		v.FillBytes(sig[32:])
	default:
		if sig, err = s.key.Sign(rand.Reader, sum[:], crypto.SHA256); err != nil {
			return "", err
		}
	}
	return text + "." + enc.EncodeToString(sig), nil
}

// NewAccountTokens returns the serviceaccount-token-controller: it fills Secrets of the type
// kubernetes.io/service-account-token, and deletes those whose account is gone. It returns nil where no key is given.
func NewAccountTokens(workers int, keyFile, caFile string, d loop.Deps) (*loop.Controller, error) {
	if keyFile == "" {
		return nil, nil
	}
	s, err := loadSigner(keyFile)
	if err != nil {
		return nil, fmt.Errorf("--service-account-private-key-file: %w", err)
	}
	var ca []byte
	if caFile != "" {
		if ca, err = os.ReadFile(caFile); err != nil {
			return nil, fmt.Errorf("--root-ca-file: %w", err)
		}
	}
	secrets, accounts := d.Sources.AccountTokens(), d.Sources.ServiceAccounts()
	ctl := d.Controller(workers, func(ctx context.Context, key string) error {
		secret := secrets.Get(loop.Split(key))
		if secret == nil || secret.DeletionTimestamp != nil || secret.Annotations[corev1.ServiceAccountNameKey] == "" {
			return nil
		}
		return fillToken(ctx, d, s, ca, secret, accounts.Get(secret.Namespace, secret.Annotations[corev1.ServiceAccountNameKey]))
	})
	loop.Watch(ctl, secrets, loop.Own[corev1.Secret])
	loop.Watch(ctl, accounts, func(e loop.Event[corev1.ServiceAccount]) []string {
		var keys []string
		for _, secret := range secrets.In(e.Now().Namespace) {
			if secret.Annotations[corev1.ServiceAccountNameKey] == e.Now().Name {
				keys = append(keys, loop.Key(secret))
			}
		}
		return keys
	})
	return ctl, nil
}

func fillToken(ctx context.Context, d loop.Deps, s *signer, ca []byte, secret *corev1.Secret, sa *corev1.ServiceAccount) error {
	api := loop.Core[corev1.Secret, corev1.SecretList](d, "secrets", secret.Namespace)
	name, uid := secret.Annotations[corev1.ServiceAccountNameKey], secret.Annotations[corev1.ServiceAccountUIDKey]
	if sa == nil || (uid != "" && string(sa.UID) != uid) {
		live, err := loop.Core[corev1.ServiceAccount, corev1.ServiceAccountList](d, "serviceaccounts", secret.Namespace).Get(ctx, name, metav1.GetOptions{})
		switch {
		case err == nil && (uid == "" || string(live.UID) == uid):
			sa = live
		case err != nil && !apierrors.IsNotFound(err):
			return err
		default:
			return unlessChanged(api.Delete(ctx, secret.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &secret.UID, ResourceVersion: &secret.ResourceVersion}}))
		}
	}
	data := maps.Clone(secret.Data)
	if data == nil {
		data = map[string][]byte{}
	}
	if len(ca) > 0 {
		data[corev1.ServiceAccountRootCAKey] = ca
	}
	data[corev1.ServiceAccountNamespaceKey] = []byte(secret.Namespace)
	if len(data[corev1.ServiceAccountTokenKey]) == 0 {
		token, err := s.jwt(legacyClaims{
			Issuer: "kubernetes/serviceaccount", Namespace: secret.Namespace, Secret: secret.Name, Account: sa.Name, UID: string(sa.UID),
			Subject: "system:serviceaccount:" + sa.Namespace + ":" + sa.Name,
		})
		if err != nil {
			return err
		}
		data[corev1.ServiceAccountTokenKey] = []byte(token)
	}
	if uid == string(sa.UID) && maps.EqualFunc(data, secret.Data, func(a, b []byte) bool { return string(a) == string(b) }) {
		return nil
	}
	next := secret.DeepCopy()
	next.Data = data
	next.Annotations[corev1.ServiceAccountUIDKey] = string(sa.UID)
	_, err := api.Update(ctx, next, metav1.UpdateOptions{})
	return unlessChanged(err)
}

// unlessChanged drops the errors of an object that is another by now; its change brings it here again.
func unlessChanged(err error) error {
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil
	}
	return err
}
