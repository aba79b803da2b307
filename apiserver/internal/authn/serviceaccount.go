package authn

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	jose "github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Getter reads the objects that tokens refer to. An error means that the object cannot be had; not found is one.
type Getter interface {
	GetServiceAccount(ctx context.Context, namespace, name string) (*corev1.ServiceAccount, error)
	GetPod(ctx context.Context, namespace, name string) (*corev1.Pod, error)
	GetSecret(ctx context.Context, namespace, name string) (*corev1.Secret, error)
	GetNode(ctx context.Context, name string) (*corev1.Node, error)
}

// LegacyIssuer signs the tokens in Secrets, whatever --service-account-issuer says.
const LegacyIssuer = "kubernetes/serviceaccount"

// InvalidSinceLabel marks a Secret whose token is no longer accepted.
const InvalidSinceLabel = "kubernetes.io/legacy-token-invalid-since"

type objectRef struct {
	Name string `json:"name,omitempty"`
	UID  string `json:"uid,omitempty"`
}

type boundClaims struct {
	Namespace      string           `json:"namespace,omitempty"`
	Node           *objectRef       `json:"node,omitempty"`
	Pod            *objectRef       `json:"pod,omitempty"`
	Secret         *objectRef       `json:"secret,omitempty"`
	ServiceAccount objectRef        `json:"serviceaccount,omitempty"`
	WarnAfter      *jwt.NumericDate `json:"warnafter,omitempty"`
}

type privateClaims struct {
	Kubernetes *boundClaims `json:"kubernetes.io,omitempty"`

	LegacyName      string `json:"kubernetes.io/serviceaccount/service-account.name,omitempty"`
	LegacyUID       string `json:"kubernetes.io/serviceaccount/service-account.uid,omitempty"`
	LegacySecret    string `json:"kubernetes.io/serviceaccount/secret.name,omitempty"`
	LegacyNamespace string `json:"kubernetes.io/serviceaccount/namespace,omitempty"`
}

// ServiceAccounts recognizes tokens of service accounts: bound ones of our issuers, and those kept in Secrets.
type ServiceAccounts struct {
	Metrics      *Metrics
	Issuers      []string // the first one signs; all are accepted
	Keys         []PublicKey
	APIAudiences []string
	Getter       Getter
	Now          func() time.Time // time.Now if nil
}

var signatureAlgorithms = []jose.SignatureAlgorithm{jose.RS256, jose.ES256, jose.ES384, jose.ES512}

// AuthenticateToken implements TokenAuthenticator.
func (s *ServiceAccounts) AuthenticateToken(ctx context.Context, token string) (*Identity, bool, error) {
	issuer := unverifiedIssuer(token)
	legacy := issuer == LegacyIssuer
	if !legacy && !slices.Contains(s.Issuers, issuer) {
		return nil, false, nil
	}
	tok, err := jwt.ParseSigned(token, signatureAlgorithms)
	if err != nil {
		return nil, false, nil //nolint:nilerr // it is another's token
	}
	public, private := &jwt.Claims{}, &privateClaims{}
	if err := s.verify(tok, public, private); err != nil {
		return nil, false, err
	}
	auds, err := s.audiences(ctx, public.Audience)
	if err != nil {
		return nil, false, err
	}
	now := time.Now
	if s.Now != nil {
		now = s.Now
	}
	var id *Identity
	if legacy {
		id, err = s.legacy(ctx, token, public, private)
	} else {
		id, err = s.bound(ctx, public, private.Kubernetes, now())
	}
	if err != nil {
		return nil, false, err
	}
	id.Audiences = auds
	return id, true, nil
}

// unverifiedIssuer reads the issuer that a token claims, to find out whether it is meant for us.
func unverifiedIssuer(token string) string {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return ""
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return ""
	}
	var claims struct {
		Issuer string `json:"iss"`
	}
	if json.Unmarshal(payload, &claims) != nil {
		return ""
	}
	return claims.Issuer
}

func (s *ServiceAccounts) verify(tok *jwt.JSONWebToken, claims ...any) error {
	kid := ""
	if len(tok.Headers) > 0 {
		kid = tok.Headers[0].KeyID
	}
	err := errors.New("invalid signature, no keys found")
	for _, k := range s.Keys {
		if kid != "" && kid != k.ID {
			continue
		}
		if err = tok.Claims(k.Key, claims...); err == nil {
			return nil
		}
	}
	return err
}

func (s *ServiceAccounts) audiences(ctx context.Context, token []string) ([]string, error) {
	if len(token) == 0 {
		s.Metrics.tokens.legacy.Inc()
		token = s.APIAudiences
	}
	wanted, ok := AudiencesFrom(ctx)
	if !ok {
		wanted = s.APIAudiences
	}
	var both []string
	for _, a := range token {
		if slices.Contains(wanted, a) {
			both = append(both, a)
		}
	}
	if len(both) == 0 && len(s.APIAudiences) > 0 {
		return nil, fmt.Errorf("token audiences %q is invalid for the target audiences %q", token, wanted)
	}
	return both, nil
}

var errInvalidated = errors.New("service account token has been invalidated")

// bound checks a token of TokenRequest: its time, and that what it is bound to still exists.
func (s *ServiceAccounts) bound(ctx context.Context, public *jwt.Claims, c *boundClaims, now time.Time) (*Identity, error) {
	switch err := public.Validate(jwt.Expected{Time: now}); {
	case errors.Is(err, jwt.ErrExpired):
		return nil, errors.New("service account token has expired")
	case errors.Is(err, jwt.ErrNotValidYet):
		return nil, errors.New("service account token is not valid yet")
	case errors.Is(err, jwt.ErrIssuedInTheFuture):
		return nil, errors.New("service account token is issued in the future")
	case err != nil:
		return nil, fmt.Errorf("service account token claims could not be validated: %w", err)
	case c == nil:
		return nil, errors.New("service account token has no kubernetes.io claim")
	}
	gone := now.Add(-jwt.DefaultLeeway)
	sa, err := s.Getter.GetServiceAccount(ctx, c.Namespace, c.ServiceAccount.Name)
	switch {
	case err != nil:
		return nil, err
	case string(sa.UID) != c.ServiceAccount.UID:
		return nil, fmt.Errorf("service account UID (%s) does not match claim (%s)", sa.UID, c.ServiceAccount.UID)
	case deletedBefore(sa.ObjectMeta, gone):
		return nil, fmt.Errorf("service account %s/%s has been deleted", c.Namespace, c.ServiceAccount.Name)
	}
	id := &Identity{
		Name:   ServiceAccountUsername(c.Namespace, c.ServiceAccount.Name),
		UID:    c.ServiceAccount.UID,
		Groups: ServiceAccountGroups(c.Namespace),
	}
	set := func(key, value string) {
		if value != "" {
			if id.Extra == nil {
				id.Extra = map[string][]string{}
			}
			id.Extra[key] = []string{value}
		}
	}
	if err := s.references(ctx, c, gone); err != nil {
		return nil, err
	}
	if c.WarnAfter != nil && *c.WarnAfter != 0 {
		if now.After(c.WarnAfter.Time()) {
			s.Metrics.tokens.stale.Inc()
		} else {
			s.Metrics.tokens.valid.Inc()
		}
	}
	if c.Pod != nil {
		set(PodNameKey, c.Pod.Name)
		set(PodUIDKey, c.Pod.UID)
	}
	if c.Node != nil {
		set(NodeNameKey, c.Node.Name)
		set(NodeUIDKey, c.Node.UID)
	}
	if public.ID != "" {
		set(CredentialIDKey, "JTI="+public.ID)
	}
	return id, nil
}

// references checks the Secret, Pod or Node that the token is bound to.
func (s *ServiceAccounts) references(ctx context.Context, c *boundClaims, gone time.Time) error {
	check := func(kind, claim string, ref *objectRef, get func() (metav1.ObjectMeta, error)) error {
		if ref == nil {
			return nil
		}
		m, err := get()
		switch {
		case err != nil, deletedBefore(m, gone):
			return errInvalidated
		case string(m.UID) != ref.UID:
			return fmt.Errorf("%s UID (%s) does not match service account %s ref claim (%s)", kind, m.UID, claim, ref.UID)
		}
		return nil
	}
	if err := check("secret", "secret", c.Secret, func() (metav1.ObjectMeta, error) {
		o, err := s.Getter.GetSecret(ctx, c.Namespace, c.Secret.Name)
		return metaOf(o, err)
	}); err != nil {
		return err
	}
	if c.Pod != nil { // the node of a bound pod informs, and is not checked
		return check("pod", "pod", c.Pod, func() (metav1.ObjectMeta, error) {
			o, err := s.Getter.GetPod(ctx, c.Namespace, c.Pod.Name)
			return metaOf(o, err)
		})
	}
	return check("node", "node", c.Node, func() (metav1.ObjectMeta, error) {
		o, err := s.Getter.GetNode(ctx, c.Node.Name)
		return metaOf(o, err)
	})
}

func metaOf[T any, P interface {
	*T
	GetObjectMeta() metav1.Object
}](o P, err error) (metav1.ObjectMeta, error) {
	if err != nil {
		return metav1.ObjectMeta{}, err
	}
	return *o.GetObjectMeta().(*metav1.ObjectMeta), nil
}

func deletedBefore(m metav1.ObjectMeta, t time.Time) bool {
	return m.DeletionTimestamp != nil && m.DeletionTimestamp.Time.Before(t)
}

// legacy checks a token that is kept in a Secret.
func (s *ServiceAccounts) legacy(ctx context.Context, token string, public *jwt.Claims, c *privateClaims) (*Identity, error) {
	for _, claim := range []struct{ name, value string }{
		{"sub", public.Subject},
		{"namespace", c.LegacyNamespace},
		{"secretName", c.LegacySecret},
		{"serviceAccountName", c.LegacyName},
		{"serviceAccountUID", c.LegacyUID},
	} {
		if claim.value == "" {
			return nil, fmt.Errorf("%s claim is missing", claim.name)
		}
	}
	ns, name, ok := SplitServiceAccount(public.Subject)
	if !ok || ns != c.LegacyNamespace || name != c.LegacyName {
		return nil, errors.New("sub claim is invalid")
	}
	secret, err := s.Getter.GetSecret(ctx, ns, c.LegacySecret)
	if err != nil || secret.DeletionTimestamp != nil {
		return nil, errors.New("Token has been invalidated")
	}
	if subtle.ConstantTimeCompare(secret.Data[corev1.ServiceAccountTokenKey], []byte(token)) == 0 {
		return nil, errors.New("Token does not match server's copy")
	}
	sa, err := s.Getter.GetServiceAccount(ctx, ns, name)
	switch {
	case err != nil:
		return nil, err
	case sa.DeletionTimestamp != nil:
		return nil, fmt.Errorf("ServiceAccount %s/%s has been deleted", ns, name)
	case string(sa.UID) != c.LegacyUID:
		return nil, fmt.Errorf("ServiceAccount UID (%s) does not match claim (%s)", sa.UID, c.LegacyUID)
	case secret.Labels[InvalidSinceLabel] != "":
		s.Metrics.tokens.invalid.Inc()
		return nil, fmt.Errorf("the token in secret %s/%s for service account %s/%s has been marked invalid. Use tokens from "+
			"the TokenRequest API or manually created secret-based tokens, or remove the '%s' label from the secret to "+
			"temporarily allow use of this token", ns, secret.Name, ns, name, InvalidSinceLabel)
	}
	if slices.ContainsFunc(sa.Secrets, func(r corev1.ObjectReference) bool { return r.Name == secret.Name }) {
		s.Metrics.tokens.automatic.Inc()
	} else {
		s.Metrics.tokens.manual.Inc()
	}
	return &Identity{Name: public.Subject, UID: c.LegacyUID, Groups: ServiceAccountGroups(ns)}, nil
}

// Expirations of TokenRequest, in seconds.
const (
	MinExpirationSeconds     = 10 * 60
	DefaultExpirationSeconds = 60 * 60
	// WarnOnlyExpirationSeconds is what the ServiceAccount admission plugin asks for; a token of such a length for the
	// API server itself is extended to ExtendedExpirationSeconds, and warned about after the requested time.
	WarnOnlyExpirationSeconds = 60*60 + 7
	ExtendedExpirationSeconds = 365 * 24 * 60 * 60
)

// Issuer signs the tokens of TokenRequest.
type Issuer struct {
	Name             string // --service-account-issuer, the first
	Signer           jose.Signer
	APIAudiences     []string
	MaxExpiration    time.Duration // --service-account-max-token-expiration; 0 is no limit
	ExtendExpiration bool          // --service-account-extend-token-expiration
	Now              func() time.Time
}

// TokenSpec is what a token is asked for. Exactly one of Pod, Secret and Node may be set, except that Node beside
// Pod names the pod's node.
type TokenSpec struct {
	ServiceAccount    *corev1.ServiceAccount
	Pod               *corev1.Pod
	Secret            *corev1.Secret
	Node              *corev1.Node
	Audiences         []string // the API server's if empty
	ExpirationSeconds int64    // at least MinExpirationSeconds, at most 2^32
}

// Token is an issued token.
type Token struct {
	Token             string
	Expires           time.Time // what the TokenRequest's status says; an extended token is valid for longer
	ExpirationSeconds int64     // as it was shortened, if it was
	CredentialID      string    // JTI=…
	Warning           string
}

// Issue signs a token.
func (i *Issuer) Issue(spec TokenSpec) (*Token, error) {
	if spec.Secret != nil && (spec.Node != nil || spec.Pod != nil) {
		return nil, errors.New("internal error, token can only be bound to one object type")
	}
	now := time.Now
	if i.Now != nil {
		now = i.Now
	}
	at := now()
	auds := spec.Audiences
	if len(auds) == 0 {
		auds = i.APIAudiences
	}
	out := &Token{ExpirationSeconds: spec.ExpirationSeconds}
	if limit := int64(i.MaxExpiration / time.Second); limit > 0 && out.ExpirationSeconds > limit {
		out.Warning = fmt.Sprintf("requested expiration of %d seconds shortened to %d seconds", out.ExpirationSeconds, limit)
		out.ExpirationSeconds = limit
	}
	seconds := out.ExpirationSeconds
	c := &boundClaims{
		Namespace:      spec.ServiceAccount.Namespace,
		ServiceAccount: objectRef{spec.ServiceAccount.Name, string(spec.ServiceAccount.UID)},
	}
	if i.extend(spec, seconds, auds) {
		c.WarnAfter = jwt.NewNumericDate(at.Add(time.Duration(seconds) * time.Second))
		seconds = ExtendedExpirationSeconds
	}
	if spec.Pod != nil {
		c.Pod = &objectRef{spec.Pod.Name, string(spec.Pod.UID)}
	}
	if spec.Secret != nil {
		c.Secret = &objectRef{spec.Secret.Name, string(spec.Secret.UID)}
	}
	if spec.Node != nil {
		c.Node = &objectRef{spec.Node.Name, string(spec.Node.UID)}
	}
	jti := newUUID()
	public := &jwt.Claims{
		Issuer:    i.Name,
		Subject:   ServiceAccountUsername(spec.ServiceAccount.Namespace, spec.ServiceAccount.Name),
		Audience:  auds,
		IssuedAt:  jwt.NewNumericDate(at),
		NotBefore: jwt.NewNumericDate(at),
		Expiry:    jwt.NewNumericDate(at.Add(time.Duration(seconds) * time.Second)),
		ID:        jti,
	}
	token, err := jwt.Signed(i.Signer).Claims(&privateClaims{Kubernetes: c}).Claims(public).Serialize()
	if err != nil {
		return nil, fmt.Errorf("failed to generate token: %w", err)
	}
	out.Token, out.CredentialID = token, "JTI="+jti
	out.Expires = at.Add(time.Duration(out.ExpirationSeconds) * time.Second)
	return out, nil
}

func (i *Issuer) extend(spec TokenSpec, seconds int64, auds []string) bool {
	if !i.ExtendExpiration || spec.Pod == nil || seconds != WarnOnlyExpirationSeconds {
		return false
	}
	for _, a := range auds {
		if !slices.Contains(i.APIAudiences, a) {
			return false
		}
	}
	return true
}

func newUUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
