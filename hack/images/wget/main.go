// Command wget fetches a URL, with the flags of wget that scripts use most: -q, -T SECONDS, -O FILE, --post-data TEXT.
package main

import (
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"path"
	"strings"
	"time"
)

// options are the flags.
type options struct {
	quiet    bool
	to, post string
	timeout  int
}

func main() {
	var o options
	flag.BoolVar(&o.quiet, "q", false, "say nothing")
	flag.StringVar(&o.to, "O", "", "file to write, - for standard output")
	flag.IntVar(&o.timeout, "T", 30, "seconds to wait")
	flag.StringVar(&o.post, "post-data", "", "text to send by POST")
	// Scripts write "-qO-": letters together, a value right behind its letter.
	if err := flag.CommandLine.Parse(apart(os.Args[1:])); err != nil {
		os.Exit(2)
	}
	if flag.NArg() != 1 {
		fmt.Fprintln(os.Stderr, "usage: wget [-q] [-T SECONDS] [-O FILE] [--post-data TEXT] URL")
		os.Exit(2)
	}
	if err := fetch(flag.Arg(0), o); err != nil {
		fmt.Fprintln(os.Stderr, "wget:", err)
		os.Exit(1)
	}
}

// apart writes each letter as an argument of its own.
func apart(args []string) []string {
	var out []string
	for _, a := range args {
		if len(a) < 3 || a[0] != '-' || a[1] == '-' {
			out = append(out, a)
			continue
		}
		for j := 1; j < len(a); j++ {
			out = append(out, "-"+a[j:j+1])
			if a[j] == 'O' || a[j] == 'T' {
				if j+1 < len(a) {
					out = append(out, a[j+1:])
				}
				break
			}
		}
	}
	return out
}

// request makes the request: a POST where there is something to send.
func request(url string, o options) (*http.Request, error) {
	if !strings.HasPrefix(url, "http") {
		url = "http://" + url
	}
	if o.post == "" {
		return http.NewRequest(http.MethodGet, url, nil)
	}
	req, err := http.NewRequest(http.MethodPost, url, strings.NewReader(o.post))
	if err == nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	return req, err
}

func fetch(url string, o options) error {
	req, err := request(url, o)
	if err != nil {
		return err
	}
	client := http.Client{Timeout: time.Duration(o.timeout) * time.Second}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode >= http.StatusBadRequest {
		return fmt.Errorf("server returned error: HTTP/1.1 %s", resp.Status)
	}
	to, out := o.to, io.Writer(os.Stdout)
	if to != "-" {
		if to == "" {
			if to = path.Base(resp.Request.URL.Path); to == "/" || to == "." {
				to = "index.html"
			}
		}
		f, err := os.Create(to)
		if err != nil {
			return err
		}
		defer func() { _ = f.Close() }()
		out = f
	}
	n, err := io.Copy(out, resp.Body)
	if err == nil && !o.quiet && to != "-" {
		fmt.Fprintf(os.Stderr, "%q saved, %d bytes\n", to, n)
	}
	return err
}
