// Package config is the controller manager's configuration: upstream's flags and defaults.
//
// Data in: arguments. Data out: a Config that is validated once and not changed after. It reads no file; controllers
// read the key and certificate files that flags name.
package config
