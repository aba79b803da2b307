package authn

import (
	"net/http"
	"net/url"
	"strings"
)

func firstHeader(h http.Header, names []string) string {
	for _, n := range names {
		if v := h.Get(n); v != "" {
			return v
		}
	}
	return ""
}

func allHeaders(h http.Header, names []string) []string {
	var out []string
	for _, n := range names {
		for _, v := range h.Values(n) {
			if v != "" {
				out = append(out, v)
			}
		}
	}
	return out
}

func hasPrefixFold(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}

// extraHeaders gathers the headers with one of the prefixes; what follows the prefix is a key, in lower case and with
// percent escapes.
func extraHeaders(h http.Header, prefixes []string) map[string][]string {
	var out map[string][]string
	for _, prefix := range prefixes {
		for name, values := range h {
			if !hasPrefixFold(name, prefix) {
				continue
			}
			if out == nil {
				out = map[string][]string{}
			}
			key := extraKey(name[len(prefix):])
			out[key] = append(out[key], values...)
		}
	}
	return out
}

func extraKey(s string) string {
	s = strings.ToLower(s)
	if key, err := url.PathUnescape(s); err == nil {
		return key
	}
	return s
}

// clear removes the headers that name a user.
func (f FrontProxy) clear(h http.Header) {
	for _, names := range [][]string{f.UsernameHeaders, f.UIDHeaders, f.GroupHeaders} {
		for _, n := range names {
			h.Del(n)
		}
	}
	for _, prefix := range f.ExtraHeaderPrefixes {
		for name := range h {
			if hasPrefixFold(name, prefix) {
				delete(h, name)
			}
		}
	}
}
