package node

import (
	"context"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// maxTokenAge is when a token is renewed at the latest, as upstream does.
const maxTokenAge = 24 * time.Hour

type tokenKey struct {
	uid      types.UID
	audience string
	seconds  int64
}

type tokenEntry struct {
	token         string
	made, expires time.Time
}

// fresh reports a token that needs no renewal: less than 80% of its life, and less than a day, has passed.
func (e tokenEntry) fresh(now time.Time) bool {
	life := e.expires.Sub(e.made)
	return now.Before(e.made.Add(min(life*8/10, maxTokenAge)))
}

// Token returns a token of the pod's service account, bound to the pod. When it is due for renewal but the API server
// does not answer, the old one is used while it is valid.
func (a *API) Token(ctx context.Context, pod *corev1.Pod, audience string, seconds int64) (string, error) {
	key, now := tokenKey{pod.UID, audience, seconds}, time.Now()
	a.mu.Lock()
	e, ok := a.token[key]
	a.mu.Unlock()
	if ok && e.fresh(now) {
		return e.token, nil
	}
	req := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
		ExpirationSeconds: &seconds,
		BoundObjectRef:    &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: pod.Name, UID: pod.UID},
	}}
	if audience != "" {
		req.Spec.Audiences = []string{audience}
	}
	rest, err := a.c.REST(corev1.SchemeGroupVersion)
	if err != nil {
		return "", err
	}
	out := &authenticationv1.TokenRequest{}
	err = rest.Post().Namespace(pod.Namespace).Resource("serviceaccounts").Name(pod.Spec.ServiceAccountName).SubResource("token").Body(req).Do(ctx).Into(out)
	if err != nil {
		if ok && now.Before(e.expires) {
			return e.token, nil
		}
		return "", err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.token[key] = tokenEntry{token: out.Status.Token, made: now, expires: out.Status.ExpirationTimestamp.Time}
	return out.Status.Token, nil
}

// Forget drops the tokens of a pod that ended.
func (a *API) Forget(uid types.UID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for k := range a.token {
		if k.uid == uid {
			delete(a.token, k)
		}
	}
}
