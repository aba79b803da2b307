// Command ctl makes, shows and removes clusters, and is every kubectl command.
package main

import (
	"os"

	"flagship/ctl/internal/app"
)

func main() { os.Exit(app.Main(os.Args)) }
