package rest

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"flagship/apiserver/internal/audit"
	"flagship/apiserver/internal/store"
	"flagship/apiserver/internal/watchcache"
	"flagship/apiserver/internal/wire"
)

// Objects that are stored and cannot be read, KEP-3926: the key of their encryption is gone, or what they are is known no more.

// undecodable is the answer to who asks for an entry that is no object.
func undecodable(res *Resource, e *watchcache.Entry, err error) error {
	return corrupt(res.Prefix+e.Key, fmt.Errorf("object not decodable revision=%d: %w", e.Rev, err))
}

// corrupt is the error of a key in upstream's words.
func corrupt(key string, err error) error {
	return apierrors.NewInternalError(storageError(7, "corrupt object", key, err))
}

func storageError(code int, what, key string, err error) error {
	return fmt.Errorf("StorageError: %s, Code: %d, Key: %s, ResourceVersion: 0, AdditionalErrorMsg: %w", what, code, key, err) //nolint:staticcheck // upstream's words
}

// maxCauses bounds how many objects an answer tells of that cannot be read.
const maxCauses = 100

// readable is an error where a value is not of the store's encoding, such as one that could not be decrypted: a list is whole or it is not answered. What is wrong is told of
// each, so that it can be deleted.
func (a *API) readable(res *Resource, entries []*watchcache.Entry) error {
	var causes []metav1.StatusCause
	for _, e := range entries {
		if wire.IsProtobuf(e.Value) || res.codec != nil && len(e.Value) > 0 && e.Value[0] == '{' {
			continue
		}
		key := a.deps.Store.Prefix() + res.Prefix + e.Key
		what := fmt.Errorf("object not decodable revision=%d: it is not of the store's encoding", e.Rev)
		if e.Sealed {
			what = &store.Unreadable{Err: errors.New("it cannot be decrypted")}
		}
		causes = append(causes, metav1.StatusCause{Type: metav1.CauseTypeUnexpectedServerResponse, Field: key, Message: storageError(7, "corrupt object", key, what).Error()})
		if len(causes) == maxCauses {
			break
		}
	}
	if len(causes) == 0 {
		return nil
	}
	message := fmt.Sprintf("failed to read one or more %s from the storage: %s", res.GroupResource(), causes[0].Message)
	if len(causes) > 1 {
		message = fmt.Sprintf("%s (and %d more)", message, len(causes)-1)
	}
	if len(causes) == maxCauses {
		causes = append(causes, metav1.StatusCause{Type: metav1.CauseTypeTooMany, Message: "too many errors, the list is truncated"})
	}
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusInternalServerError, Reason: metav1.StatusReasonStoreReadError, Message: message,
		Details: &metav1.StatusDetails{Group: res.Group, Kind: res.Resource, Name: "list", Causes: causes},
	}}
}

// unread is whether an object is to be deleted only if it cannot be read.
func unread(o *metav1.DeleteOptions) bool {
	return o.IgnoreStoreReadErrorWithClusterBreakingPotential != nil && *o.IgnoreStoreReadErrorWithClusterBreakingPotential
}

// deleteUnread deletes an object that cannot be read, and none other. Finalizers, preconditions and admission are passed by, since they would have to be read. Who asks for it
// needs a right of its own.
func (a *API) deleteUnread(w http.ResponseWriter, q *request, o *metav1.DeleteOptions) error {
	ctx := q.ctx()
	audit.From(ctx).Annotate("apiserver.k8s.io/unsafe-delete-ignore-read-error", "")
	if err := a.deps.Hooks.MayDeleteUnread(ctx, q.res.GVR(), q.info.Namespace, q.info.Name); err != nil {
		return err
	}
	key := q.key(q.info.Name)
	for try := 1; ; try++ {
		rev, err := a.unreadRevision(ctx, q, key)
		if err != nil {
			return err
		}
		if len(o.DryRun) > 0 {
			break
		}
		_, err = a.deps.Store.Delete(ctx, q.res.Prefix+key, rev)
		var conflict *store.Conflict
		var unreadable *store.Unreadable
		if err == nil {
			break
		}
		if !errors.As(err, &conflict) && !errors.As(err, &unreadable) {
			return err
		}
		if try >= maxUpdateTries {
			return q.conflict()
		}
	}
	status := &metav1.Status{
		TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: metav1.StatusSuccess, Code: http.StatusOK,
		Details: &metav1.StatusDetails{Name: q.info.Name, Kind: q.res.GroupVersionKind.Kind},
	}
	audit.From(ctx).Status(status)
	writeStatus(w, form{media: mediaJSON}, http.StatusOK, status)
	return nil
}

// unreadRevision is the revision of an object that cannot be read; one that can is a conflict.
func (a *API) unreadRevision(ctx context.Context, q *request, key string) (int64, error) {
	it, _, err := a.deps.Store.Get(ctx, q.res.Prefix+key)
	var unreadable *store.Unreadable
	switch {
	case errors.Is(err, store.ErrNotFound):
		return 0, q.notFound()
	case errors.As(err, &unreadable):
		return unreadable.Rev, nil
	case err != nil:
		return 0, err
	}
	if _, err := a.decodeStored(q.res, &watchcache.Entry{Key: key, Value: it.Value, Rev: it.Rev}); err != nil {
		return it.Rev, nil //nolint:nilerr // this is what is looked for
	}
	return 0, apierrors.NewConflict(q.res.GroupResource(), q.info.Name, storageError(4, "invalid object", a.deps.Store.Prefix()+q.res.Prefix+key, errors.New("unsafe deletion is not allowed because the object is decodable from storage")))
}
