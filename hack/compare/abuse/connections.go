package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"
)

// connections are many, slow, or of another protocol.
func connections() []attack {
	const group = "Connections"
	const host = "Host: abuse\r\nAuthorization: Bearer " + janeToken + "\r\n"
	slow := "POST " + configMaps + " HTTP/1.1\r\nHost: abuse\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n"
	return []attack{
		{group: group, name: "2,000 idle TLS connections", want: []string{"open"}, memory: 256 * mib, time: 30 * time.Second, run: idle(2_000, "")},
		{group: group, name: "2,000 TLS connections that have each begun a request", want: []string{"open"}, memory: 256 * mib, time: 30 * time.Second, run: idle(2_000, "GET / HTTP/1.1\r\nX: ")},
		{group: group, name: "2,000 connections that never begin with TLS", want: []string{"open"}, memory: 64 * mib, run: silence(2_000)},
		{group: group, name: "300 bodies that come slowly", want: []string{"400", "408", "429", "504", closed}, memory: 160 * mib, time: requestTimeout + 10*time.Second, run: slowly(300, slow+"Authorization: Bearer "+janeToken+"\r\n\r\n", " ")},
		{group: group, name: "300 bodies that come slowly, of nobody", want: []string{"400", "403", "408", closed}, memory: 128 * mib, time: requestTimeout + 10*time.Second, run: slowly(300, slow+"\r\n", " ")},
		{group: group, name: "300 bodies that do not come, with a bad token", want: []string{"400", "401", "408", closed}, memory: 128 * mib, time: requestTimeout + 10*time.Second, run: slowly(300, slow+"Authorization: Bearer bad\r\n\r\n", "")},
		{group: group, name: "100 HTTP/2 bodies that do not come", want: []string{"400", "408", "429", "504", closed}, memory: 96 * mib, time: requestTimeout + 10*time.Second, run: stalled(100)},
		{group: group, name: "headers of 2 MiB", want: []string{"431", closed}, run: raw("GET /version HTTP/1.1\r\n" + host + "X: " + strings.Repeat("a", 2*mib) + "\r\n\r\n")},
		{group: group, name: "100,000 headers", want: []string{"404", "431", "400"}, run: raw("GET /nothing HTTP/1.1\r\n" + host + strings.Repeat("A: b\r\n", 100_000) + "\r\n")},
		{group: group, name: "a header without an end of 8 MiB", want: []string{"431", "400", closed}, run: raw("GET /nothing HTTP/1.1\r\n" + host + strings.Repeat("A", 8*mib))},
		{group: group, name: "two lengths of a body", want: []string{"400"}, run: raw("POST " + configMaps + " HTTP/1.1\r\n" + host + "Content-Length: 5\r\nContent-Length: 6\r\n\r\n{}    ")},
		{group: group, name: "a length and chunks", want: []string{"400", "413"}, run: raw("POST " + configMaps + " HTTP/1.1\r\n" + host + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n0\r\n\r\nGET /x HTTP/1.1\r\n\r\n")},
		{group: group, name: "a chunk of 2^64 bytes", want: []string{"400"}, run: raw("POST " + configMaps + " HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\nConnection: close\r\n\r\nfffffffffffffffff\r\n{")},
		{group: group, name: "a chunk whose extension is 1 MiB", want: []string{"400"}, run: raw("POST " + configMaps + " HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n1;" + strings.Repeat("a", mib) + "\r\n{\r\n0\r\n\r\n")},
		{group: group, name: "an unknown transfer encoding", want: []string{"400", "501"}, run: raw("POST " + configMaps + " HTTP/1.1\r\n" + host + "Transfer-Encoding: gzip, chunked\r\n\r\n")},
		{group: group, name: "no host", want: []string{"400"}, run: raw("GET /version HTTP/1.1\r\n\r\n")},
		{group: group, name: "HTTP/9.9", want: []string{"400", "505", closed}, run: raw("GET /version HTTP/9.9\r\n" + host + "\r\n")},
		{group: group, name: "64 KiB that are no HTTP", want: []string{"400", "431", closed}, run: raw(strings.Repeat("\x00\xff\r\n", 16<<10))},
		{group: group, name: "500 connections of garbage instead of TLS", want: []string{closed, "400"}, run: garbage(500)},
	}
}

// idle opens TLS connections at once, sends a beginning on each, and holds them for a while.
func idle(n int, begin string) func(context.Context, *target) (answers, error) {
	return func(ctx context.Context, t *target) (answers, error) {
		conns := hold{}
		defer conns.close()
		sum, err := parallel(16, func(int) (answers, error) {
			for range n / 16 {
				c, err := t.dial(ctx, "http/1.1")
				if err != nil {
					return nil, err
				}
				conns.add(c)
				if _, err := c.Write([]byte(begin)); err != nil {
					return nil, err
				}
			}
			return answers{"open": n / 16}, nil
		})
		if err != nil {
			return nil, err
		}
		return sum, wait(ctx, 2*time.Second)
	}
}

// hold are connections that end together.
type hold struct {
	mu    sync.Mutex // guards conns
	conns []net.Conn
}

func (h *hold) add(c net.Conn) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.conns = append(h.conns, c)
}

func (h *hold) close() {
	for _, c := range h.conns {
		_ = c.Close()
	}
}

func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// silence opens connections and says nothing.
func silence(n int) func(context.Context, *target) (answers, error) {
	return func(ctx context.Context, t *target) (answers, error) {
		conns := hold{}
		defer conns.close()
		for range n {
			c, err := (&net.Dialer{}).DialContext(ctx, "tcp", t.Base[len("https://"):])
			if err != nil {
				return nil, err
			}
			conns.add(c)
		}
		return answers{"open": n}, wait(ctx, 2*time.Second)
	}
}

// slowly sends requests whose bodies come by one drip a second, and counts how they end.
func slowly(n int, head, drip string) func(context.Context, *target) (answers, error) {
	return func(ctx context.Context, t *target) (answers, error) {
		return parallel(n, func(int) (answers, error) {
			c, err := t.dial(ctx, "http/1.1")
			if err != nil {
				return nil, err
			}
			defer func() { _ = c.Close() }()
			if _, err := c.Write([]byte(head)); err != nil {
				return nil, err
			}
			ctx, cancel := context.WithCancel(ctx)
			var drips sync.WaitGroup
			drips.Go(func() {
				for drip != "" && wait(ctx, time.Second) == nil {
					if _, err := c.Write([]byte(drip)); err != nil {
						return
					}
				}
			})
			code := codeOf(c)
			cancel()
			drips.Wait()
			return one(code), nil
		})
	}
}

// garbage sends what is not TLS.
func garbage(n int) func(context.Context, *target) (answers, error) {
	return func(ctx context.Context, t *target) (answers, error) {
		return parallel(n, func(i int) (answers, error) {
			c, err := (&net.Dialer{}).DialContext(ctx, "tcp", t.Base[len("https://"):])
			if err != nil {
				return nil, err
			}
			defer func() { _ = c.Close() }()
			if deadline, ok := ctx.Deadline(); ok {
				if err := c.SetDeadline(deadline); err != nil {
					return nil, err
				}
			}
			_, _ = fmt.Fprintf(c, "\x16\x03\x01\xff\xff%d%s", i, strings.Repeat("\xff", 4096))
			return one(codeOf(c)), nil
		})
	}
}

var errRefused = errors.New("the server does not speak HTTP/2")
