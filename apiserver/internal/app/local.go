package app

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"flagship/apiserver/internal/audit"
	"flagship/apiserver/internal/authn"
	"flagship/apiserver/internal/rest"
)

// local is the server's own client: requests go through the whole write path
// without a connection, as the user system:apiserver.
type local struct {
	api    *rest.API
	scheme *runtime.Scheme
	// kinds maps a kind to its resource.
	kinds map[schema.GroupVersionKind]schema.GroupVersionResource
	// manager is the owner of the fields that it sets, empty for kube-apiserver.
	manager string
}

// as is the same client as another owner of fields.
func (l *local) as(manager string) *local {
	c := *l
	c.manager = manager
	return &c
}

// answer collects a response.
type answer struct {
	header http.Header
	code   int
	body   bytes.Buffer
}

func (a *answer) Header() http.Header { return a.header }
func (a *answer) WriteHeader(code int) {
	if a.code == 0 {
		a.code = code
	}
}

func (a *answer) Write(p []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	return a.body.Write(p)
}

func (l *local) do(ctx context.Context, method string, gvr schema.GroupVersionResource, namespace, object, sub string, in, out runtime.Object) error {
	path := "/api/" + gvr.Version
	if gvr.Group != "" {
		path = "/apis/" + gvr.Group + "/" + gvr.Version
	}
	if namespace != "" {
		path += "/namespaces/" + namespace
	}
	path += "/" + gvr.Resource
	if object != "" {
		path += "/" + url.PathEscape(object)
	}
	if sub != "" {
		path += "/" + sub
	}
	var body io.Reader = http.NoBody
	if in != nil {
		data, err := json.Marshal(in)
		if err != nil {
			return fmt.Errorf("%s %s: %w", method, path, err)
		}
		body = bytes.NewReader(data)
	}
	r, err := http.NewRequestWithContext(ctx, method, path, body)
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	r.Header.Set("User-Agent", cmp.Or(l.manager, name)+"/local")
	r.Header.Set("Accept", "application/json")
	if method == http.MethodPatch {
		r.Header.Set("Content-Type", string(types.ApplyPatchType))
	}
	info := rest.ParseInfo(r)
	user := &authn.Identity{Name: authn.APIServerUser, Groups: []string{authn.PrivilegedGroup, authn.AllAuthenticated}}
	r = r.WithContext(rest.WithUser(rest.WithInfo(audit.Outside(ctx), &info), user))
	a := &answer{header: http.Header{}}
	l.api.ServeHTTP(a, r)
	if a.code >= http.StatusBadRequest {
		status := metav1.Status{}
		if err := json.Unmarshal(a.body.Bytes(), &status); err != nil {
			return fmt.Errorf("%s %s: %d %s", method, path, a.code, a.body.String())
		}
		return &apierrors.StatusError{ErrStatus: status}
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(a.body.Bytes(), out); err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	return nil
}

// of finds the resource, namespace and name of a typed object, and sets its
// kind, which Go objects mostly lack.
func (l *local) of(obj runtime.Object) (gvr schema.GroupVersionResource, m metav1.Object, err error) {
	gvks, _, err := l.scheme.ObjectKinds(obj)
	if err != nil {
		return gvr, nil, err
	}
	obj.GetObjectKind().SetGroupVersionKind(gvks[0])
	m, ok := obj.(metav1.Object)
	if !ok {
		return gvr, nil, fmt.Errorf("%T has no metadata", obj)
	}
	gvr, ok = l.kinds[gvks[0]]
	if !ok {
		return gvr, nil, fmt.Errorf("%s: %w", gvks[0], errNotServed)
	}
	return gvr, m, nil
}

var errNotServed = errors.New("it is not served")

// Get fills into, which has a namespace and a name.
func (l *local) Get(ctx context.Context, into runtime.Object) error {
	gvr, m, err := l.of(into)
	if err != nil {
		return err
	}
	return l.do(ctx, http.MethodGet, gvr, m.GetNamespace(), m.GetName(), "", nil, into)
}

// Create creates obj.
func (l *local) Create(ctx context.Context, obj runtime.Object) error {
	gvr, m, err := l.of(obj)
	if err != nil {
		return err
	}
	return l.do(ctx, http.MethodPost, gvr, m.GetNamespace(), "", "", obj, nil)
}

// Update writes obj.
func (l *local) Update(ctx context.Context, obj runtime.Object) error {
	gvr, m, err := l.of(obj)
	if err != nil {
		return err
	}
	return l.do(ctx, http.MethodPut, gvr, m.GetNamespace(), m.GetName(), "", obj, nil)
}

// UpdateStatus writes obj's status and fills obj with the outcome.
func (l *local) UpdateStatus(ctx context.Context, obj runtime.Object) error {
	gvr, m, err := l.of(obj)
	if err != nil {
		return err
	}
	return l.do(ctx, http.MethodPut, gvr, m.GetNamespace(), m.GetName(), "status", obj, obj)
}

// ApplyStatus applies obj's status; fields that others own are taken over.
func (l *local) ApplyStatus(ctx context.Context, obj runtime.Object) error {
	gvr, m, err := l.of(obj)
	if err != nil {
		return err
	}
	query := url.Values{"fieldManager": {cmp.Or(l.manager, name)}, "force": {"true"}}
	return l.do(ctx, http.MethodPatch, gvr, m.GetNamespace(), m.GetName(), "status?"+query.Encode(), obj, nil)
}

// Delete deletes obj.
func (l *local) Delete(ctx context.Context, obj runtime.Object) error {
	gvr, m, err := l.of(obj)
	if err != nil {
		return err
	}
	return l.DeleteObject(ctx, gvr, m.GetNamespace(), m.GetName())
}

// CreateObject, DeleteObject and Each implement allocate.Objects.
func (l *local) CreateObject(ctx context.Context, gvr schema.GroupVersionResource, obj runtime.Object) error {
	return l.do(ctx, http.MethodPost, gvr, obj.(metav1.Object).GetNamespace(), "", "", obj, nil)
}

// DeleteObject deletes by name.
func (l *local) DeleteObject(ctx context.Context, gvr schema.GroupVersionResource, namespace, name string) error {
	return l.do(ctx, http.MethodDelete, gvr, namespace, name, "", nil, nil)
}

// Each visits cached objects.
func (l *local) Each(gvr schema.GroupVersionResource, namespace string, visit func(runtime.Object) bool) error {
	return l.api.Each(gvr, namespace, visit)
}
