// Command wget fetches a URL, with the flags of wget that scripts use most: -q, -T SECONDS and -O FILE.
package main

import (
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"path"
	"time"
)

func main() {
	quiet := flag.Bool("q", false, "say nothing")
	to := flag.String("O", "", "file to write, - for standard output")
	timeout := flag.Int("T", 30, "seconds to wait")
	flag.Parse()
	if flag.NArg() != 1 {
		fmt.Fprintln(os.Stderr, "usage: wget [-q] [-T SECONDS] [-O FILE] URL")
		os.Exit(2)
	}
	if err := fetch(flag.Arg(0), *to, time.Duration(*timeout)*time.Second, *quiet); err != nil {
		fmt.Fprintln(os.Stderr, "wget:", err)
		os.Exit(1)
	}
}

func fetch(url, to string, timeout time.Duration, quiet bool) error {
	if len(url) < 4 || url[:4] != "http" {
		url = "http://" + url
	}
	client := http.Client{Timeout: timeout}
	resp, err := client.Get(url)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode >= http.StatusBadRequest {
		return fmt.Errorf("server returned error: HTTP/1.1 %s", resp.Status)
	}
	out := io.Writer(os.Stdout)
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
	if err == nil && !quiet && to != "-" {
		fmt.Fprintf(os.Stderr, "%q saved, %d bytes\n", to, n)
	}
	return err
}
