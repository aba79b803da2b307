package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"golang.org/x/net/http2"
)

// watches are many, and slow.
func watches() []attack {
	const group = "Watches"
	const own = "/registry/configmaps/abuse/busy"
	return []attack{
		{group: group, name: "3,000 watches of one client", want: []string{"open", closed}, memory: 256 * mib, time: 30 * time.Second, run: crowd(30, 100)},
		{group: group, name: "400 watches that are not read, of 10 MB of changes", want: []string{fine}, memory: 256 * mib, time: 30 * time.Second, stores: []string{own}, run: deaf(4, 100)},
		{group: group, name: "a watch of a revision far ahead, until its timeout", want: []string{"200", "504", "400"}, run: ask(get(configMaps + "?watch=1&timeoutSeconds=1&resourceVersion=999999999999"))},
		{group: group, name: "a watch of a revision that is none", want: []string{"400", "500"}, run: ask(get(configMaps + "?watch=1&timeoutSeconds=1&resourceVersion=x"))},
		{group: group, name: "a watch as nothing known", want: []string{"406"}, run: ask(request{method: "GET", path: configMaps + "?watch=1&timeoutSeconds=1", accept: "image/png"})},
		{group: group, name: "a watch of nobody, 200 at once", want: []string{"403"}, run: many(200, get(configMaps+"?watch=1&timeoutSeconds=1").as(nobody))},
	}
}

// watch begins n watches on a connection.
func (s *stream) watch(n int, path string) error {
	for i := range n {
		if err := s.WriteHeaders(http2.HeadersFrameParam{StreamID: id(i), BlockFragment: s.headers("GET", path), EndStream: true, EndHeaders: true}); err != nil {
			return err
		}
	}
	return nil
}

// crowd holds watches for a while.
func crowd(conns, n int) func(context.Context, *target) (answers, error) {
	return func(ctx context.Context, t *target) (answers, error) {
		return parallel(conns, func(int) (answers, error) {
			s, err := t.open(ctx, true, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 20})
			if err != nil {
				return nil, err
			}
			defer func() { _ = s.conn.Close() }()
			if err := s.watch(n, "/api/v1/namespaces/a-b/configmaps?watch=1"); err != nil {
				return one(closed), nil //nolint:nilerr // to be disconnected is an answer
			}
			select {
			case end := <-s.end:
				return one(end), nil
			case <-time.After(5 * time.Second):
				return one("open"), nil
			}
		})
	}
}

// deaf watches what changes a lot and reads nothing of it. It is ok if the changes are made.
func deaf(conns, n int) func(context.Context, *target) (answers, error) {
	return func(ctx context.Context, t *target) (answers, error) {
		streams := hold{}
		defer streams.close()
		for range conns {
			s, err := t.open(ctx, false, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
			if err != nil {
				return nil, err
			}
			streams.add(s.conn)
			if err := s.watch(n, configMaps+"?watch=1"); err != nil {
				return nil, err
			}
		}
		if _, err := t.must(ctx, "POST", configMaps, `{"metadata":{"name":"busy"}}`); err != nil {
			return nil, err
		}
		for i := range 200 {
			if _, err := t.must(ctx, "PATCH", configMaps+"/busy", fmt.Sprintf(`{"data":{"a":"%d %s"}}`, i, strings.Repeat("x", 50_000))); err != nil {
				return nil, err
			}
		}
		_, err := t.must(ctx, "DELETE", configMaps+"/busy", "")
		return one(fine), err
	}
}
