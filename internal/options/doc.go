// Package options is a binary's configuration with the origin of each value.
//
// Data in: defaults in the caller's structs, component configuration files,
// drop-ins, environment variables, flags. Data out: the filled structs, and a list of every effective
// option with where its value came from, which the Component service shows.
// The order of precedence is defaults, file, drop-ins, environment, flags. An
// unknown flag or key is an error of one line. It owns no goroutine.
package options
