package connect

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/streaming/pkg/httpstream/wsstream"
)

// maxRefusal bounds what is read of a kubelet's answer that is no log.
const maxRefusal = 4 << 10

// socketLog sends a container's log as WebSocket messages. The kubelet's own answer is a plain stream.
func (c *Connector) socketLog(w http.ResponseWriter, r *http.Request, from *url.URL) error {
	req, err := http.NewRequestWithContext(r.Context(), http.MethodGet, from.String(), nil)
	if err != nil {
		return err
	}
	resp, err := c.kubelet.RoundTrip(req)
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
