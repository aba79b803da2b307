// Command sh is the shell of an image that stands in for busybox's: it becomes busybox's ash, or bash where the environment has names that the ash of Debian's
// busybox drops (with a dash or a dot in them).
package main

import (
	"fmt"
	"os"
	"strings"
	"syscall"
)

func main() {
	shell := "/usr/bin/busybox"
	if !names(os.Environ()) {
		shell = "/usr/bin/bash"
	}
	err := syscall.Exec(shell, os.Args, os.Environ())
	fmt.Fprintf(os.Stderr, "sh: %s: %v\n", shell, err)
	os.Exit(127)
}

// names says whether the names of all variables are such as a shell may set.
func names(env []string) bool {
	for _, e := range env {
		name, _, _ := strings.Cut(e, "=")
		if strings.ContainsFunc(name, func(r rune) bool {
			return r != '_' && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
		}) {
			return false
		}
	}
	return true
}
