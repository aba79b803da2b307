// Package config is the scheduler's configuration: defaults, KubeSchedulerConfiguration v1, flags.
//
// Data in: arguments and the file that --config names. Data out: a Config that is validated once and not changed after,
// and the resolved profiles: which plugins run, in which order, with which weights and arguments. It reads files in Load
// and nowhere else.
package config
