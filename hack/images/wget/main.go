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
	// Scripts write "-qO-": letters together, a value right behind its letter.
	if err := flag.CommandLine.Parse(apart(os.Args[1:])); err != nil {
		os.Exit(2)
	}
	if flag.NArg() != 1 {
		fmt.Fprintln(os.Stderr, "usage: wget [-q] [-T SECONDS] [-O FILE] URL")
		os.Exit(2)
	}
	if err := fetch(flag.Arg(0), *to, time.Duration(*timeout)*time.Second, *quiet); err != nil {
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
