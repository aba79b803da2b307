// Command kube-apiserver serves the Kubernetes API.
package main

import (
	"errors"
	"fmt"
	"os"

	"flagship/apiserver/internal/app"
	"flagship/apiserver/internal/config"
	"flagship/internal/options"
	"flagship/internal/process"
)

func main() { os.Exit(run()) }

func run() int {
	cfg, set, err := config.Load(os.Args[1:], os.Stdout)
	if errors.Is(err, options.ErrHelp) {
		return 0
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "kube-apiserver:", err)
		return 1
	}
	ctx, stop := process.SignalContext()
	defer stop()
	if err := app.Run(ctx, cfg, set); err != nil {
		fmt.Fprintln(os.Stderr, "kube-apiserver:", err)
		return 1
	}
	return 0
}
