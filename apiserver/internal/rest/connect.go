package rest

import (
	"net/url"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"flagship/apiserver/internal/admission"
)

// connectOptions are what a request for a stream asks for, as admission sees
// them; nil for the log, which admission does not see.
func connectOptions(resource, sub string, parts string, q url.Values) runtime.Object {
	flag := func(name string) bool { return truthy(q.Get(name)) }
	meta := func(kind string) metav1.TypeMeta { return metav1.TypeMeta{APIVersion: "v1", Kind: kind} }
	switch sub {
	case "exec":
		return &corev1.PodExecOptions{TypeMeta: meta("PodExecOptions"), Stdin: flag("stdin"), Stdout: flag("stdout"), Stderr: flag("stderr"), TTY: flag("tty"), Container: q.Get("container"), Command: q["command"]}
	case "attach":
		return &corev1.PodAttachOptions{TypeMeta: meta("PodAttachOptions"), Stdin: flag("stdin"), Stdout: flag("stdout"), Stderr: flag("stderr"), TTY: flag("tty"), Container: q.Get("container")}
	case "portforward":
		return &corev1.PodPortForwardOptions{TypeMeta: meta("PodPortForwardOptions")}
	case "proxy":
		switch resource {
		case "pods":
			return &corev1.PodProxyOptions{TypeMeta: meta("PodProxyOptions"), Path: parts}
		case "services":
			return &corev1.ServiceProxyOptions{TypeMeta: meta("ServiceProxyOptions"), Path: parts}
		case "nodes":
			return &corev1.NodeProxyOptions{TypeMeta: meta("NodeProxyOptions"), Path: parts}
		}
	}
	return nil
}

// admitConnect lets admission see a request for a stream.
func (a *API) admitConnect(q *request, parts string) error {
	at := a.attributes(q, admission.Connect, q.info.Subresource, nil, nil, false)
	if o := connectOptions(q.res.Resource, q.info.Subresource, parts, q.http.URL.Query()); o != nil {
		at.Object, at.Kind = o, o.GetObjectKind().GroupVersionKind()
	}
	if err := a.admitMutate(q, at); err != nil {
		return err
	}
	return a.admitValidate(q, at)
}
