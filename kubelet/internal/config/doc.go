// Package config is the kubelet's configuration: upstream's defaults, then the file, the drop-ins and the flags, each
// value remembering where it came from.
//
// Data in: arguments and files. Data out: one Config, validated and not changed afterwards. It owns no goroutine.
package config
