package bootstrap

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
)

// verifyJWS checks the detached signature that the bootstrap signer puts on cluster-info: HS256 with the secret of the
// token as the key, the payload left out between the dots (RFC 7515, appendix F). JOSE libraries refuse a key as short
// as the 16 characters of a bootstrap token, hence by hand.
func verifyJWS(detached, payload, token string) error {
	parts := strings.Split(detached, ".")
	if len(parts) != 3 || parts[1] != "" {
		return errors.New("the signature of cluster-info is not a detached JWS")
	}
	id, secret, _ := strings.Cut(token, ".")
	text, err := base64.RawURLEncoding.DecodeString(parts[0])
	if err != nil {
		return errors.New("the signature of cluster-info has no readable header")
	}
	var header struct {
		Alg string `json:"alg"`
		Kid string `json:"kid"`
	}
	if err := json.Unmarshal(text, &header); err != nil || header.Alg != "HS256" || header.Kid != id {
		return errors.New("the signature of cluster-info is not HS256 by this token")
	}
	got, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err != nil {
		return errors.New("the signature of cluster-info is not base64")
	}
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(parts[0] + "." + base64.RawURLEncoding.EncodeToString([]byte(payload))))
	if !hmac.Equal(got, mac.Sum(nil)) {
		return errors.New("the signature of cluster-info is not by this token")
	}
	return nil
}
