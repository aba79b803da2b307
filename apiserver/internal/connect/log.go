package connect

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/streaming/pkg/httpstream/wsstream"
)

// maxRefusal bounds what is read of a kubelet's answer that is no log.
const maxRefusal = 4 << 10

// containerLog serves a container's log.
func (c *Connector) containerLog(w http.ResponseWriter, r *http.Request, pod *corev1.Pod) error {
	options, err := logOptions(r.URL.Query())
	if err != nil {
		return apierrors.NewBadRequest(err.Error())
	}
	if errs := checkLog(options); len(errs) > 0 {
		return apierrors.NewInvalid(corev1.SchemeGroupVersion.WithKind("PodLogOptions").GroupKind(), pod.Name, errs)
	}
	container, err := containerOf(pod, options.Container)
	if err != nil {
		return err
	}
	if pod.Spec.NodeName == "" { // it has said nothing yet
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	location, err := c.hostURL(pod)
	if err != nil {
		return err
	}
	location.Path, location.RawQuery = "/containerLogs/"+pod.Namespace+"/"+pod.Name+"/"+container, queryOf(options).Encode()
	via := c.kubelet
	if options.InsecureSkipTLSVerifyBackend {
		via = c.unchecked
	}
	if wsstream.IsWebSocketRequest(r) {
		return socketLog(w, r, location, via)
	}
	c.forward(w, r, location, via)
	return nil
}

// logOptions reads the options of a query as any other options are read.
func logOptions(q url.Values) (*corev1.PodLogOptions, error) {
	out := &corev1.PodLogOptions{Container: q.Get("container")}
	for name, into := range map[string]*bool{"follow": &out.Follow, "previous": &out.Previous, "timestamps": &out.Timestamps, "insecureSkipTLSVerifyBackend": &out.InsecureSkipTLSVerifyBackend} {
		if v := q[name]; len(v) > 0 {
			if err := runtime.Convert_Slice_string_To_bool(&v, into, nil); err != nil {
				return nil, err
			}
		}
	}
	for name, into := range map[string]**int64{"sinceSeconds": &out.SinceSeconds, "tailLines": &out.TailLines, "limitBytes": &out.LimitBytes} {
		if v := q[name]; len(v) > 0 {
			if err := runtime.Convert_Slice_string_To_Pointer_int64(&v, into, nil); err != nil {
				return nil, err
			}
		}
	}
	if v := q["sinceTime"]; len(v) > 0 {
		if err := metav1.Convert_Slice_string_To_Pointer_v1_Time(&v, &out.SinceTime, nil); err != nil {
			return nil, err
		}
	}
	if q.Has("stream") {
		stream := q.Get("stream")
		out.Stream = &stream
	}
	return out, nil
}

// checkLog tells what is wrong with options. To choose a stream is alpha (PodLogsQuerySplitStreams).
func checkLog(o *corev1.PodLogOptions) field.ErrorList {
	var errs field.ErrorList
	if o.TailLines != nil && *o.TailLines < 0 {
		errs = append(errs, field.Invalid(field.NewPath("tailLines"), *o.TailLines, "must be greater than or equal to 0"))
	}
	if o.LimitBytes != nil && *o.LimitBytes < 1 {
		errs = append(errs, field.Invalid(field.NewPath("limitBytes"), *o.LimitBytes, "must be greater than 0"))
	}
	switch {
	case o.SinceSeconds != nil && o.SinceTime != nil:
		errs = append(errs, field.Forbidden(field.NewPath(""), "at most one of `sinceTime` or `sinceSeconds` may be specified"))
	case o.SinceSeconds != nil && *o.SinceSeconds < 1:
		errs = append(errs, field.Invalid(field.NewPath("sinceSeconds"), *o.SinceSeconds, "must be greater than 0"))
	}
	if o.Stream != nil {
		errs = append(errs, field.Forbidden(field.NewPath("stream"), "may not be specified"))
	}
	return errs
}

// queryOf are the options that a kubelet is asked with.
func queryOf(o *corev1.PodLogOptions) url.Values {
	out := url.Values{}
	for name, v := range map[string]bool{"follow": o.Follow, "previous": o.Previous, "timestamps": o.Timestamps} {
		if v {
			out.Set(name, "true")
		}
	}
	for name, v := range map[string]*int64{"sinceSeconds": o.SinceSeconds, "tailLines": o.TailLines, "limitBytes": o.LimitBytes} {
		if v != nil {
			out.Set(name, strconv.FormatInt(*v, 10))
		}
	}
	if o.SinceTime != nil {
		out.Set("sinceTime", o.SinceTime.Format(time.RFC3339))
	}
	return out
}

// socketLog sends a container's log as WebSocket messages. The kubelet's own answer is a plain stream.
func socketLog(w http.ResponseWriter, r *http.Request, from *url.URL, via http.RoundTripper) error {
	req, err := http.NewRequestWithContext(r.Context(), http.MethodGet, from.String(), nil)
	if err != nil {
		return err
	}
	resp, err := via.RoundTrip(req)
	if err != nil {
		return apierrors.NewServiceUnavailable("error trying to reach service: " + err.Error())
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, maxRefusal))
		return apierrors.NewGenericServerResponse(resp.StatusCode, r.Method, schema.GroupResource{Resource: "pods"}, "", strings.TrimSpace(string(text)), 0, true)
	}
	// The buffer keeps the end apart from the last bytes, which the copying would lose.
	reader := wsstream.NewReader(bufio.NewReader(resp.Body), true, wsstream.NewDefaultReaderProtocols())
	// An error is told to the client by the end of the messages: the answer has begun.
	_ = reader.Copy(hijacker{w}, r)
	return nil
}

// hijacker takes over the connection below the filters' writers.
type hijacker struct{ http.ResponseWriter }

// Hijack implements http.Hijacker.
func (h hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buf, err := http.NewResponseController(h.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, fmt.Errorf("take over the connection: %w", err)
	}
	return conn, buf, nil
}
