package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/util/flowcontrol"
)

// Sink takes events. False is that some are lost; who asks may then refuse the request. The events are the sink's.
type Sink interface {
	Process(events []*auditv1.Event) bool
}

// union gives events to several sinks.
type union []Sink

func (u union) Process(events []*auditv1.Event) bool {
	ok := true
	for _, s := range u {
		ok = s.Process(events) && ok
	}
	return ok
}

// forgiving lets requests go on whose events are lost.
type forgiving struct{ Sink }

func (f forgiving) Process(events []*auditv1.Event) bool {
	f.Sink.Process(events)
	return true
}

type writeSyncer interface{ io.Writer }

// logSink writes a line for each event.
type logSink struct {
	out    writeSyncer
	legacy bool
	failed func(n int, err error)

	mu sync.Mutex // guards out: a line is written whole
}

func (l *logSink) Process(events []*auditv1.Event) bool {
	var buf bytes.Buffer
	for _, e := range events {
		if l.legacy {
			buf.WriteString(line(e))
		} else if err := json.NewEncoder(&buf).Encode(e); err != nil {
			l.failed(1, err)
			return false
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, err := l.out.Write(buf.Bytes()); err != nil {
		l.failed(len(events), err)
		return false
	}
	return true
}

// line is an event in the legacy format.
func line(e *auditv1.Event) string {
	or := func(s, none string) string {
		if s == "" {
			return none
		}
		return s
	}
	quoted := func(list []string, none string) string {
		if list == nil {
			return none
		}
		out := make([]string, len(list))
		for i, s := range list {
			out[i] = strconv.Quote(s)
		}
		return strings.Join(out, ",")
	}
	groups := "<none>"
	if e.User.Username != "" && len(e.User.Groups) > 0 {
		groups = quoted(e.User.Groups, "")
	}
	as, asGroups := "<self>", "<lookup>"
	if u := e.ImpersonatedUser; u != nil {
		as, asGroups = u.Username, quoted(u.Groups, asGroups)
	}
	namespace, response, ip := "<none>", "<deferred>", "<unknown>"
	if e.ObjectRef != nil {
		namespace = or(e.ObjectRef.Namespace, namespace)
	}
	if e.ResponseStatus != nil {
		response = strconv.Itoa(int(e.ResponseStatus.Code))
	}
	if len(e.SourceIPs) > 0 {
		ip = e.SourceIPs[0]
	}
	return fmt.Sprintf("%s AUDIT: id=%q stage=%q ip=%q method=%q user=%q groups=%q as=%q asgroups=%q user-agent=%q namespace=%q uri=%q response=\"%s\"\n",
		e.RequestReceivedTimestamp.Format(time.RFC3339Nano), e.AuditID, e.Stage, ip, e.Verb, or(e.User.Username, "<none>"), groups, as, asGroups, e.UserAgent, namespace, e.RequestURI, response)
}

// truncating takes objects out of events that are too large, and splits batches.
type truncating struct {
	next   Sink
	cfg    Truncate
	failed func(n int, err error)
}

func (t *truncating) Process(events []*auditv1.Event) bool {
	ok := true
	var batch []*auditv1.Event
	var size int64
	flush := func() {
		if len(batch) > 0 {
			ok = t.next.Process(batch) && ok
			batch, size = nil, 0
		}
	}
	for _, e := range events {
		n, err := sizeOf(e)
		if err == nil && n > t.cfg.MaxEventSize && (e.RequestObject != nil || e.ResponseObject != nil) {
			e.RequestObject, e.ResponseObject = nil, nil
			if e.Annotations == nil {
				e.Annotations = map[string]string{}
			}
			e.Annotations[truncated] = "true"
			n, err = sizeOf(e)
		}
		if err == nil && n > t.cfg.MaxEventSize {
			err = errors.New("event is too large even after truncating")
		}
		if err != nil {
			t.failed(1, err)
			continue
		}
		if size+n > t.cfg.MaxBatchSize {
			flush()
		}
		batch, size = append(batch, e), size+n
	}
	flush()
	return ok
}

func sizeOf(e *auditv1.Event) (int64, error) {
	data, err := json.Marshal(e)
	return int64(len(data)), err
}

// batching gathers events and hands them on in the background. What comes when its queue is full is lost.
type batching struct {
	next     Sink
	cfg      Batch
	queue    chan *auditv1.Event
	throttle flowcontrol.RateLimiter
	failed   func(n int, err error)
}

func newBatching(next Sink, cfg Batch, failed func(n int, err error)) *batching {
	b := &batching{next: next, cfg: cfg, queue: make(chan *auditv1.Event, cfg.BufferSize), failed: failed}
	if cfg.ThrottleEnable {
		b.throttle = flowcontrol.NewTokenBucketRateLimiter(cfg.ThrottleQPS, cfg.ThrottleBurst)
	}
	return b
}

func (b *batching) Process(events []*auditv1.Event) bool {
	for i, e := range events {
		select {
		case b.queue <- e:
		default:
			b.failed(len(events)-i, errors.New("audit buffer queue blocked"))
			return true
		}
	}
	return true
}

// Run hands events on until ctx ends, and then those that are left.
func (b *batching) Run(ctx context.Context) {
	// Batches that take long do not keep others waiting, up to a number.
	var sending sync.WaitGroup
	defer sending.Wait()
	slots := make(chan struct{}, max(b.cfg.ThrottleBurst, 1))
	send := func(batch []*auditv1.Event) {
		if len(batch) == 0 {
			return
		}
		if b.throttle != nil {
			b.throttle.Accept()
		}
		slots <- struct{}{}
		sending.Go(func() {
			defer func() { <-slots }()
			b.next.Process(batch)
		})
	}
	for {
		batch, ended := b.gather(ctx)
		send(batch)
		if !ended {
			continue
		}
		for len(b.queue) > 0 {
			batch = nil
			for len(b.queue) > 0 && len(batch) < b.cfg.MaxSize {
				batch = append(batch, <-b.queue)
			}
			send(batch)
		}
		return
	}
}

func (b *batching) gather(ctx context.Context) (batch []*auditv1.Event, ended bool) {
	var late <-chan time.Time
	if b.cfg.MaxSize > 1 {
		timer := time.NewTimer(b.cfg.MaxWait)
		defer timer.Stop()
		late = timer.C
	}
	for len(batch) < b.cfg.MaxSize {
		select {
		case e := <-b.queue:
			batch = append(batch, e)
		case <-late:
			return batch, false
		case <-ctx.Done():
			return batch, true
		}
	}
	return batch, false
}

// hook posts events to a server.
type hook struct {
	url     string
	client  *http.Client
	backoff wait.Backoff
	failed  func(n int, err error)
}

// hookTimeout bounds one post.
const hookTimeout = 30 * time.Second

func newHook(path string, initial time.Duration, failed func(n int, err error)) (*hook, error) {
	rules := &clientcmd.ClientConfigLoadingRules{ExplicitPath: path}
	cfg, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{}).ClientConfig()
	if err != nil {
		return nil, err
	}
	cfg.Timeout = hookTimeout
	cfg.QPS = -1
	client, err := rest.HTTPClientFor(cfg)
	if err != nil {
		return nil, err
	}
	host := cfg.Host
	if !strings.Contains(host, "://") {
		host = "https://" + host
	}
	return &hook{url: host, client: client, backoff: wait.Backoff{Duration: initial, Factor: 1.5, Jitter: 0.2, Steps: 5}, failed: failed}, nil
}

func (h *hook) Process(events []*auditv1.Event) bool {
	list := auditv1.EventList{TypeMeta: metav1.TypeMeta{Kind: "EventList", APIVersion: auditv1.SchemeGroupVersion.String()}, Items: make([]auditv1.Event, len(events))}
	for i, e := range events {
		list.Items[i] = *e
		list.Items[i].TypeMeta = metav1.TypeMeta{}
	}
	body, err := json.Marshal(list)
	if err != nil {
		h.failed(len(events), err)
		return false
	}
	var last error
	// Whatever the error is, the receiver may come back.
	err = wait.ExponentialBackoff(h.backoff, func() (bool, error) {
		last = h.post(body)
		return last == nil, nil
	})
	if err != nil {
		h.failed(len(events), last)
	}
	return err == nil
}

func (h *hook) post(body []byte) error {
	ctx, cancel := context.WithTimeout(context.Background(), hookTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, h.url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json, */*")
	resp, err := h.client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	const enough = 64 << 10
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, enough))
	if resp.StatusCode < http.StatusOK || resp.StatusCode >= http.StatusMultipleChoices {
		return fmt.Errorf("%s answered %s", h.url, resp.Status)
	}
	return nil
}
