package rest

import (
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/klauspost/compress/gzip"

	"flagship/apiserver/internal/timing"
)

const (
	// gzipFrom is how large an answer is compressed that the client takes so, in bytes; upstream's.
	gzipFrom = 128 << 10
	// frameBlock is what makes one frame of HTTP/2 in one TLS record: a record of 16 KiB less the frame's header. Any other size costs a second record, and a
	// second write to the socket, for a few bytes.
	frameBlock = 16<<10 - 9
)

// stream is a body of an answer that is written bit by bit, in blocks that suit the connection, and compressed where that is worth it.
type stream struct {
	w    http.ResponseWriter
	code int
	// block is how much is written at one time, 0 for what comes.
	block int
	// compress is whether the body is compressed once it is large; zip does it then.
	compress bool
	zip      *gzip.Writer
	// held is what has not been written, and begun whether anything was.
	held  []byte
	begun bool
	// gone is whether the client is.
	gone   bool
	timing *timing.Timing
}

// newStream begins an answer. Its head is written with the first block.
func newStream(w http.ResponseWriter, r *http.Request, f form, code int) *stream {
	w.Header().Set("Content-Type", f.contentType())
	w.Header().Set("Cache-Control", "no-cache, private")
	s := &stream{w: w, code: code, compress: compresses(r), timing: timing.From(r.Context())}
	if r.ProtoMajor == 2 {
		s.block = frameBlock
	}
	return s
}

// Write implements io.Writer.
func (s *stream) Write(p []byte) (int, error) {
	switch {
	case s.zip != nil:
		n, err := s.zip.Write(p)
		s.gone = err != nil
		return n, err
	case s.compress:
		if s.held = append(s.held, p...); len(s.held) <= gzipFrom {
			return len(p), nil
		}
		if err := s.begin(); err != nil {
			return 0, err
		}
		return len(p), nil
	}
	n := len(p)
	if s.block == 0 {
		return n, s.send(p)
	}
	if len(s.held) > 0 {
		rest := min(s.block-len(s.held), len(p))
		s.held, p = append(s.held, p[:rest]...), p[rest:]
		if len(s.held) < s.block {
			return n, nil
		}
		if err := s.send(s.held); err != nil {
			return 0, err
		}
		s.held = s.held[:0]
	}
	for ; len(p) >= s.block; p = p[s.block:] {
		if err := s.send(p[:s.block]); err != nil {
			return 0, err
		}
	}
	s.held = append(s.held, p...)
	return n, nil
}

func (s *stream) head() {
	if !s.begun {
		s.begun = true
		s.w.WriteHeader(s.code)
	}
}

func (s *stream) send(p []byte) error {
	s.head()
	start := time.Now()
	_, err := s.w.Write(p)
	s.timing.Since(timing.ResponseWrite, start)
	s.gone = err != nil
	return err
}

var zips = sync.Pool{New: func() any {
	z, err := gzip.NewWriterLevel(io.Discard, gzip.BestSpeed)
	if err != nil {
		panic(err) // the level is one that there is
	}
	return z
}}

// begin compresses from here on.
func (s *stream) begin() error {
	s.w.Header().Set("Content-Encoding", "gzip")
	s.w.Header().Add("Vary", "Accept-Encoding")
	s.zip = zips.Get().(*gzip.Writer)
	s.zip.Reset(s.w)
	s.head()
	_, err := s.zip.Write(s.held)
	s.held, s.gone = nil, err != nil
	return err
}

// finish ends the body, whose writing ended with err. The error is to be answered where nothing has been written yet; where something has, the
// connection is broken off, so that nobody takes the half for the whole.
func (s *stream) finish(err error) error {
	zip := s.zip
	if zip != nil {
		defer func() {
			zip.Reset(io.Discard)
			zips.Put(zip)
		}()
	}
	switch {
	case s.gone:
		return nil // there is nobody to tell
	case err != nil && !s.begun:
		return err
	case err != nil:
		panic(http.ErrAbortHandler)
	case zip != nil:
		_ = zip.Close()
	case len(s.held) > 0 || !s.begun:
		_ = s.send(s.held)
	}
	return nil
}

// compresses is whether a large answer is compressed: the client takes it, and is on another host. Within one, time is spent on both sides and none is won
// (docs/adr/0010-compression.md).
func compresses(r *http.Request) bool {
	if !acceptsGzip(r.Header.Get("Accept-Encoding")) {
		return false
	}
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	ip := net.ParseIP(host)
	if err != nil || ip == nil {
		return true
	}
	own, _ := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	return !ip.IsLoopback() && (own == nil || !own.IP.Equal(ip))
}

// acceptsGzip reads the header Accept-Encoding as upstream does: gzip has to be named, whatever its weight but 0.
func acceptsGzip(header string) bool {
	for _, part := range strings.Split(header, ",") {
		name, weight, _ := strings.Cut(part, ";")
		if strings.TrimSpace(name) != "gzip" {
			continue
		}
		q, ok := strings.CutPrefix(strings.TrimSpace(weight), "q=")
		if v, err := strconv.ParseFloat(q, 64); ok && err == nil && v == 0 {
			continue
		}
		return true
	}
	return false
}

// answer writes a body that is there as a whole.
func answer(w http.ResponseWriter, r *http.Request, f form, code int, body []byte) error {
	if len(body) <= gzipFrom || f.pretty || !compresses(r) {
		respond(w, f, code, body)
		return nil
	}
	s := newStream(w, r, f, code)
	_, err := s.Write(body)
	return s.finish(err)
}
