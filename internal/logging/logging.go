// Package logging builds the one logger of a process.
//
// Data in: -v and --logging-format. Data out: a zap logger on standard error,
// to which klog and logr (used inside client-go) are bridged. It owns no
// goroutine.
package logging

import (
	"fmt"

	"github.com/go-logr/zapr"
	"github.com/spf13/pflag"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"k8s.io/klog/v2"
)

// Config selects what is logged and how.
type Config struct {
	// Verbosity is klog's level, 0 to 10. From 2 on debug lines are shown.
	Verbosity int
	// Format is "text" or "json".
	Format string
}

// AddFlags registers -v and --logging-format, with upstream's names.
func AddFlags(fs *pflag.FlagSet, c *Config) {
	fs.IntVarP(&c.Verbosity, "v", "v", c.Verbosity, "number for the log level verbosity, 0 to 10; from 4 on debug lines are logged")
	if c.Format == "" {
		c.Format = "text"
	}
	fs.StringVar(&c.Format, "logging-format", c.Format, `log format: "text" or "json"`)
}

// debugVerbosity is the klog level from which zap's debug lines are shown:
// upstream's level 4 is "debug level verbosity".
const debugVerbosity = 4

// New builds the logger and bridges klog to it.
func New(c Config) (*zap.Logger, error) {
	var encoder zapcore.Encoder
	ec := zap.NewProductionEncoderConfig()
	ec.EncodeTime = zapcore.RFC3339NanoTimeEncoder
	ec.EncodeDuration = zapcore.StringDurationEncoder
	switch c.Format {
	case "", "text":
		encoder = zapcore.NewConsoleEncoder(ec)
	case "json":
		encoder = zapcore.NewJSONEncoder(ec)
	default:
		return nil, fmt.Errorf("--logging-format: unsupported format %q: want text or json", c.Format)
	}
	level := zapcore.InfoLevel
	if c.Verbosity >= debugVerbosity {
		level = zapcore.DebugLevel
	}
	sink, _, err := zap.Open("stderr")
	if err != nil {
		return nil, fmt.Errorf("open log sink: %w", err)
	}
	log := zap.New(zapcore.NewCore(encoder, sink, level), zap.AddCaller())
	bridgeKlog(log, c.Verbosity)
	return log, nil
}

// bridgeKlog sends what client-go and its relatives log to the same place.
// Their chatter below warnings shows at debug level only.
func bridgeKlog(log *zap.Logger, verbosity int) {
	bridged := log.Named("klog").WithOptions(zap.IncreaseLevel(zapcore.WarnLevel))
	if verbosity >= debugVerbosity {
		bridged = log.Named("klog")
	}
	klog.SetLogger(zapr.NewLogger(bridged))
}
