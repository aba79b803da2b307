// Command kubelet runs pods on a node.
package main

import (
	"errors"
	"fmt"
	"os"

	"flagship/internal/options"
	"flagship/internal/process"
	"flagship/kubelet/internal/app"
	"flagship/kubelet/internal/config"
)

func main() { os.Exit(run()) }

func run() int {
	cfg, err := config.Load(os.Args[1:], os.Stdout)
	if errors.Is(err, options.ErrHelp) {
		return 0
	}
	if err == nil {
		ctx, stop := process.SignalContext()
		defer stop()
		err = app.Run(ctx, cfg)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "kubelet:", err)
		return 1
	}
	return 0
}
