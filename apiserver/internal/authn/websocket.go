package authn

import (
	"encoding/base64"
	"errors"
	"net/http"
	"strings"
	"unicode/utf8"
)

// bearerProtocol carries a token in Sec-WebSocket-Protocol, since a browser cannot set a WebSocket's headers.
const bearerProtocol = "base64url.bearer.authorization.k8s.io."

func (b Bearer) webSocket(req *http.Request) (*Identity, bool, error) {
	if !strings.EqualFold(req.Header.Get("Upgrade"), "websocket") {
		return nil, false, nil
	}
	token := ""
	var rest []string
	for _, header := range req.Header["Sec-Websocket-Protocol"] {
		for p := range strings.SplitSeq(header, ",") {
			p = strings.TrimSpace(p)
			encoded, ok := strings.CutPrefix(p, bearerProtocol)
			if !ok {
				rest = append(rest, p)
				continue
			}
			decoded, err := base64.RawURLEncoding.DecodeString(encoded)
			switch {
			case token != "":
				return nil, false, errors.New("multiple base64.bearer.authorization tokens specified")
			case err != nil || !utf8.Valid(decoded):
				return nil, false, errors.New("invalid base64.bearer.authorization token encoding")
			}
			token = string(decoded)
		}
	}
	if token == "" {
		return nil, false, nil
	}
	if len(rest) == 0 {
		return nil, false, errors.New("missing additional subprotocol")
	}
	id, ok, err := b.Tokens.AuthenticateToken(req.Context(), token)
	if ok {
		req.Header.Set("Sec-Websocket-Protocol", strings.Join(rest, ","))
	} else if err == nil {
		err = ErrInvalidToken
	}
	return id, ok, err
}
