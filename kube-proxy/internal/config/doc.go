// Package config is the proxy's configuration: defaults, KubeProxyConfiguration v1alpha1, flags.
//
// Data in: arguments and the file that --config names. Data out: a Config that is validated once and not changed after. It
// reads files in Load and nowhere else.
package config
