// Command kube-controller-manager runs the loops that move a cluster from its state to the desired one.
package main

import (
	"errors"
	"fmt"
	"os"

	"flagship/controller-manager/internal/app"
	"flagship/controller-manager/internal/config"
	"flagship/internal/options"
	"flagship/internal/process"
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
		fmt.Fprintln(os.Stderr, "kube-controller-manager:", err)
		return 1
	}
	return 0
}
