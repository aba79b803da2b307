package bootstrap

import (
	"errors"
	"strings"

	jose "github.com/go-jose/go-jose/v4"
)

// verifyJWS checks the detached signature that the bootstrap signer puts on cluster-info: HS256 with the secret of the
// token as the key, the payload left out between the dots.
func verifyJWS(detached, payload, token string) error {
	parts := strings.Split(detached, ".")
	if len(parts) != 3 || parts[1] != "" {
		return errors.New("the signature of cluster-info is not a detached JWS")
	}
	_, secret, _ := strings.Cut(token, ".")
	jws, err := jose.ParseDetached(detached, []byte(payload), []jose.SignatureAlgorithm{jose.HS256})
	if err != nil {
		return err
	}
	if _, err := jws.Verify([]byte(secret)); err != nil {
		return errors.New("the signature of cluster-info is not by this token")
	}
	return nil
}
