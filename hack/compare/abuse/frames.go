package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// stream is an HTTP/2 connection of which every frame is ours.
type stream struct {
	conn *tls.Conn
	*http2.Framer
	block bytes.Buffer
	enc   *hpack.Encoder
	// end gets how the connection ended, once.
	end chan string
}

// open begins HTTP/2 with these settings. What the server sends is read and thrown away, but for the codes that it answers with; without
// reading it stays in the way.
func (t *target) open(ctx context.Context, reading bool, settings ...http2.Setting) (*stream, error) {
	c, err := t.dial(ctx, "h2")
	if err != nil {
		return nil, err
	}
	if c.ConnectionState().NegotiatedProtocol != "h2" {
		return nil, errors.Join(errRefused, c.Close())
	}
	if _, err := io.WriteString(c, http2.ClientPreface); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	s := &stream{conn: c, Framer: http2.NewFramer(c, c), end: make(chan string, 1)}
	s.enc = hpack.NewEncoder(&s.block)
	if err := s.WriteSettings(settings...); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	if reading {
		go func() { s.end <- s.drain() }()
	}
	return s, nil
}

// drain reads until the connection ends, and says how.
func (s *stream) drain() string {
	for {
		f, err := s.ReadFrame()
		if _, ok := f.(*http2.GoAwayFrame); ok {
			return closed
		}
		var late net.Error
		switch {
		case errors.As(err, &late) && late.Timeout():
			return silent
		case err != nil && !errors.As(err, new(http2.StreamError)):
			return closed
		}
	}
}

// headers encodes a request's.
func (s *stream) headers(method, path string, more ...hpack.HeaderField) []byte {
	s.block.Reset()
	fields := append([]hpack.HeaderField{
		{Name: ":method", Value: method},
		{Name: ":scheme", Value: "https"},
		{Name: ":authority", Value: "abuse"},
		{Name: ":path", Value: path},
		{Name: "authorization", Value: "Bearer " + janeToken},
	}, more...)
	for _, f := range fields {
		_ = s.enc.WriteField(f) // to a buffer
	}
	return s.block.Bytes()
}

// flood is what is sent on each of conns connections at once, n times; who is not disconnected in the middle of it is fine too, so long
// as nothing else is disturbed.
func flood(conns, n int, send func(s *stream, i int) error) func(context.Context, *target) (answers, error) {
	return func(ctx context.Context, t *target) (answers, error) {
		return parallel(conns, func(int) (answers, error) {
			s, err := t.open(ctx, true)
			if err != nil {
				return nil, err
			}
			defer func() { _ = s.conn.Close() }()
			for i := range n {
				if err := send(s, i); err != nil {
					return one(closed), nil //nolint:nilerr // to be disconnected is an answer
				}
			}
			select {
			case end := <-s.end:
				return one(end), nil
			case <-time.After(time.Second):
				return one("open"), nil
			}
		})
	}
}

// id is the stream of the i-th request.
func id(i int) uint32 { return uint32(2*i + 1) } //nolint:gosec // small

// frames are those of HTTP/2 that come too often.
func frames() []attack {
	const group = "HTTP/2"
	open := []string{closed, "open"}
	gone := []string{closed}
	begin := func(s *stream, i int, end bool, more ...hpack.HeaderField) error {
		return s.WriteHeaders(http2.HeadersFrameParam{StreamID: id(i), BlockFragment: s.headers("GET", configMaps, more...), EndStream: true, EndHeaders: end})
	}
	return []attack{
		{group: group, name: "requests that are reset at once, 10,000 on each of 10 connections", want: open, memory: 192 * mib, time: 25 * time.Second, run: flood(10, 10_000, func(s *stream, i int) error {
			if err := begin(s, i, true); err != nil {
				return err
			}
			return s.WriteRSTStream(id(i), http2.ErrCodeCancel)
		})},
		{group: group, name: "CONTINUATION without an end, 20,000 on each of 10 connections", want: gone, run: flood(10, 20_000, func(s *stream, i int) error {
			if i == 0 {
				return begin(s, 0, false)
			}
			s.block.Reset()
			_ = s.enc.WriteField(hpack.HeaderField{Name: "x", Value: strings.Repeat("a", 1000), Sensitive: true})
			return s.WriteContinuation(1, false, s.block.Bytes())
		})},
		{group: group, name: "empty CONTINUATION without an end, 100,000", want: open, run: flood(4, 100_000, func(s *stream, i int) error {
			if i == 0 {
				return begin(s, 0, false)
			}
			return s.WriteContinuation(1, false, nil)
		})},
		{group: group, name: "SETTINGS, 100,000", want: open, run: flood(4, 100_000, func(s *stream, _ int) error {
			return s.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 16})
		})},
		{group: group, name: "PING, 100,000", want: open, run: flood(4, 100_000, func(s *stream, _ int) error { return s.WritePing(false, [8]byte{1}) })},
		{group: group, name: "SETTINGS and PING whose answers are never read", want: append([]string{silent}, open...), run: unread(4, 200_000)},
		{group: group, name: "PRIORITY, 100,000", want: open, run: flood(4, 100_000, func(s *stream, i int) error {
			return s.WritePriority(id(i), http2.PriorityParam{StreamDep: 0, Weight: 7})
		})},
		{group: group, name: "WINDOW_UPDATE over 2^31", want: gone, run: flood(4, 10, func(s *stream, _ int) error { return s.WriteWindowUpdate(0, 1<<31-1) })},
		{group: group, name: "empty DATA, 100,000 on a stream", want: open, run: flood(4, 100_000, func(s *stream, i int) error {
			if i == 0 {
				return s.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: s.headers("POST", configMaps), EndHeaders: true})
			}
			return s.WriteData(1, false, nil)
		})},
		{group: group, name: "a header of 4 KiB named 100,000 times by its index", want: open, run: flood(4, 1, func(s *stream, _ int) error {
			fields := make([]hpack.HeaderField, 100_000)
			for i := range fields {
				fields[i] = hpack.HeaderField{Name: "x", Value: strings.Repeat("a", 3000)}
			}
			return s.split(s.headers("GET", configMaps, fields...))
		})},
		{group: group, name: "DATA on streams that are not open", want: gone, run: flood(4, 100, func(s *stream, i int) error { return s.WriteData(id(i), true, []byte("x")) })},
		{group: group, name: "a frame of 1 MiB", want: gone, run: flood(4, 1, func(s *stream, _ int) error { return s.WriteRawFrame(http2.FrameHeaders, 0, 1, make([]byte, mib)) })},
		{group: group, name: "2,000 requests for 900 KB whose window is 0", want: []string{"open", closed}, memory: 1024 * mib, time: 20 * time.Second, run: closedWindow(20, 100)},
	}
}

// split sends headers in frames of the size that a server takes.
func (s *stream) split(block []byte) error {
	const most = 16 << 10
	head := block[:min(len(block), most)]
	block = block[len(head):]
	if err := s.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: head, EndStream: true, EndHeaders: len(block) == 0}); err != nil {
		return err
	}
	for len(block) > 0 {
		part := block[:min(len(block), most)]
		block = block[len(part):]
		if err := s.WriteContinuation(1, len(block) == 0, part); err != nil {
			return err
		}
	}
	return nil
}

// unread asks for answers and never reads them.
func unread(conns, n int) func(context.Context, *target) (answers, error) {
	return func(ctx context.Context, t *target) (answers, error) {
		return parallel(conns, func(int) (answers, error) {
			s, err := t.open(ctx, false)
			if err != nil {
				return nil, err
			}
			defer func() { _ = s.conn.Close() }()
			if err := s.conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
				return nil, err
			}
			for i := range n {
				if err := s.WritePing(false, [8]byte{byte(i)}); err != nil {
					break
				}
				if err := s.WriteSettings(); err != nil {
					break
				}
			}
			return one(closed), nil
		})
	}
}

// closedWindow asks for large answers that the server may not send.
func closedWindow(conns, n int) func(context.Context, *target) (answers, error) {
	return func(ctx context.Context, t *target) (answers, error) {
		return parallel(conns, func(int) (answers, error) {
			s, err := t.open(ctx, true, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
			if err != nil {
				return nil, err
			}
			defer func() { _ = s.conn.Close() }()
			for i := range n {
				if err := s.WriteHeaders(http2.HeadersFrameParam{StreamID: id(i), BlockFragment: s.headers("GET", configMaps+"/large"), EndStream: true, EndHeaders: true}); err != nil {
					return one(closed), nil //nolint:nilerr // to be disconnected is an answer
				}
			}
			select {
			case end := <-s.end:
				return one(end), nil
			case <-time.After(4 * time.Second):
				return one("open"), nil
			}
		})
	}
}

// stalled begins bodies on streams of one connection, and counts how the streams end.
func stalled(n int) func(context.Context, *target) (answers, error) {
	return func(ctx context.Context, t *target) (answers, error) {
		s, err := t.open(ctx, false)
		if err != nil {
			return nil, err
		}
		defer func() { _ = s.conn.Close() }()
		s.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
		for i := range n {
			if err := s.WriteHeaders(http2.HeadersFrameParam{StreamID: id(i), BlockFragment: s.headers("POST", configMaps, hpack.HeaderField{Name: "content-type", Value: "application/json"}), EndHeaders: true}); err != nil {
				return nil, err
			}
			if err := s.WriteData(id(i), false, []byte("{")); err != nil {
				return nil, err
			}
		}
		sum, answered := answers{}, map[uint32]bool{}
		for len(answered) < n {
			f, err := s.ReadFrame()
			if err != nil {
				sum.add(answers{closed: n - len(answered)})
				return sum, nil //nolint:nilerr // to be disconnected is an answer
			}
			switch f := f.(type) {
			case *http2.MetaHeadersFrame:
				if !answered[f.StreamID] {
					answered[f.StreamID] = true
					sum.add(one(f.PseudoValue("status")))
				}
			case *http2.RSTStreamFrame:
				if !answered[f.StreamID] {
					answered[f.StreamID] = true
					sum.add(one(closed))
				}
			}
		}
		return sum, nil
	}
}
