package audit

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/pflag"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
)

// Mode is when a request waits for its events.
type Mode string

// The modes. Strict refuses requests that cannot be told of.
const (
	Batched  Mode = "batch"
	Blocking Mode = "blocking"
	Strict   Mode = "blocking-strict"
)

// The formats of a log.
const (
	FormatJSON   = "json"
	FormatLegacy = "legacy"
)

// Config is what the flags say. Names and defaults are upstream's.
type Config struct {
	PolicyFile string
	Log        LogConfig
	Webhook    WebhookConfig
}

// LogConfig is of the file; MaxSize is in megabytes, MaxAge in days.
type LogConfig struct {
	Path                        string
	MaxAge, MaxBackups, MaxSize int
	Format                      string
	Compress                    bool
	output
}

// WebhookConfig is of the server that events are posted to.
type WebhookConfig struct {
	ConfigFile     string
	InitialBackoff time.Duration
	output
}

type output struct {
	Mode     Mode
	Batch    Batch
	Truncate Truncate
	Version  string
}

// Batch is how events are gathered.
type Batch struct {
	BufferSize, MaxSize int
	MaxWait             time.Duration
	ThrottleEnable      bool
	// ThrottleQPS is in batches per second.
	ThrottleQPS   float32
	ThrottleBurst int
}

// Truncate bounds events and batches, in bytes.
type Truncate struct {
	Enabled                    bool
	MaxBatchSize, MaxEventSize int64
}

// NewConfig has the defaults.
func NewConfig() Config {
	t := Truncate{MaxBatchSize: 10 << 20, MaxEventSize: 100 << 10}
	version := auditv1.SchemeGroupVersion.String()
	return Config{
		Log: LogConfig{MaxAge: 366, MaxBackups: 100, MaxSize: 100, Format: FormatJSON, output: output{
			Mode: Blocking, Batch: Batch{BufferSize: 10000, MaxSize: 1}, Truncate: t, Version: version,
		}},
		Webhook: WebhookConfig{InitialBackoff: 10 * time.Second, output: output{
			Mode: Batched, Batch: Batch{BufferSize: 10000, MaxSize: 400, MaxWait: 30 * time.Second, ThrottleEnable: true, ThrottleQPS: 10, ThrottleBurst: 15}, Truncate: t, Version: version,
		}},
	}
}

// AddFlags registers the flags.
func (c *Config) AddFlags(fs *pflag.FlagSet) {
	fs.StringVar(&c.PolicyFile, "audit-policy-file", "", "file with the audit policy: how much is told of which requests")
	l := &c.Log
	fs.StringVar(&l.Path, "audit-log-path", "", "file that audit events are written to; - is standard output")
	fs.IntVar(&l.MaxAge, "audit-log-maxage", l.MaxAge, "days after which old audit logs are removed; 0 keeps them")
	fs.IntVar(&l.MaxBackups, "audit-log-maxbackup", l.MaxBackups, "old audit logs that are kept; 0 keeps all")
	fs.IntVar(&l.MaxSize, "audit-log-maxsize", l.MaxSize, "megabytes at which an audit log is rotated; 0 never does")
	fs.StringVar(&l.Format, "audit-log-format", l.Format, "format of the audit log: json or legacy")
	fs.BoolVar(&l.Compress, "audit-log-compress", false, "compress old audit logs with gzip")
	l.addFlags(fs, "log")
	w := &c.Webhook
	fs.StringVar(&w.ConfigFile, "audit-webhook-config-file", "", "kubeconfig file of the server that audit events are posted to")
	fs.DurationVar(&w.InitialBackoff, "audit-webhook-initial-backoff", w.InitialBackoff, "how long to wait before a failed post is tried again")
	fs.DurationVar(&w.InitialBackoff, "audit-webhook-batch-initial-backoff", w.InitialBackoff, "old name of --audit-webhook-initial-backoff")
	_ = fs.MarkDeprecated("audit-webhook-batch-initial-backoff", "Deprecated, use --audit-webhook-initial-backoff instead.") // the flag is there
	w.addFlags(fs, "webhook")
}

func (o *output) addFlags(fs *pflag.FlagSet, name string) {
	p := "audit-" + name + "-"
	fs.StringVar((*string)(&o.Mode), p+"mode", string(o.Mode), "batch gathers events in the background; with blocking and blocking-strict a request waits until it is told of, with the latter it fails when it cannot be")
	fs.IntVar(&o.Batch.BufferSize, p+"batch-buffer-size", o.Batch.BufferSize, "events that wait to be sent; more are lost")
	fs.IntVar(&o.Batch.MaxSize, p+"batch-max-size", o.Batch.MaxSize, "events that are sent at once")
	fs.DurationVar(&o.Batch.MaxWait, p+"batch-max-wait", o.Batch.MaxWait, "how long events may wait for others")
	fs.BoolVar(&o.Batch.ThrottleEnable, p+"batch-throttle-enable", o.Batch.ThrottleEnable, "bound the batches that are sent in a second")
	fs.Float32Var(&o.Batch.ThrottleQPS, p+"batch-throttle-qps", o.Batch.ThrottleQPS, "batches that are sent in a second")
	fs.IntVar(&o.Batch.ThrottleBurst, p+"batch-throttle-burst", o.Batch.ThrottleBurst, "batches that are sent at once when few were before")
	fs.BoolVar(&o.Truncate.Enabled, p+"truncate-enabled", false, "take objects out of events that are too large")
	fs.Int64Var(&o.Truncate.MaxBatchSize, p+"truncate-max-batch-size", o.Truncate.MaxBatchSize, "bytes of a batch; larger ones are split")
	fs.Int64Var(&o.Truncate.MaxEventSize, p+"truncate-max-event-size", o.Truncate.MaxEventSize, "bytes of an event; larger ones go without their objects, or are lost")
	fs.StringVar(&o.Version, p+"version", o.Version, "version of the events: audit.k8s.io/v1")
}

// Validate checks what is in use.
func (c *Config) Validate() error {
	var errs []error
	if l := &c.Log; l.Path != "" {
		errs = append(errs, l.validate("log"))
		if l.Format != FormatJSON && l.Format != FormatLegacy {
			errs = append(errs, fmt.Errorf("invalid audit log format %s, allowed formats are [%q %q]", l.Format, FormatLegacy, FormatJSON))
		}
		for name, n := range map[string]int{"maxage": l.MaxAge, "maxbackup": l.MaxBackups, "maxsize": l.MaxSize} {
			if n < 0 {
				errs = append(errs, fmt.Errorf("--audit-log-%s %d can't be a negative number", name, n))
			}
		}
	}
	if c.Webhook.ConfigFile != "" {
		errs = append(errs, c.Webhook.validate("webhook"))
	}
	return errors.Join(errs...)
}

func (o *output) validate(name string) error {
	b, t := &o.Batch, &o.Truncate
	switch {
	case !slices.Contains([]Mode{Batched, Blocking, Strict}, o.Mode):
		return fmt.Errorf("invalid audit %s mode %s, allowed modes are \"batch,blocking,blocking-strict\"", name, o.Mode)
	case o.Version != auditv1.SchemeGroupVersion.String():
		return fmt.Errorf("invalid audit %s version %s, the only one is %s", name, o.Version, auditv1.SchemeGroupVersion)
	case t.MaxEventSize <= 0:
		return fmt.Errorf("invalid audit truncate %s max event size %d, must be a positive number", name, t.MaxEventSize)
	case t.MaxBatchSize < t.MaxEventSize:
		return fmt.Errorf("invalid audit truncate %s max batch size %d, must be greater than max event size (%d)", name, t.MaxBatchSize, t.MaxEventSize)
	case o.Mode != Batched:
		return nil
	case b.BufferSize <= 0:
		return fmt.Errorf("invalid audit batch %s buffer size %d, must be a positive number", name, b.BufferSize)
	case b.MaxSize <= 0:
		return fmt.Errorf("invalid audit batch %s max batch size %d, must be a positive number", name, b.MaxSize)
	case b.ThrottleEnable && b.ThrottleQPS <= 0:
		return fmt.Errorf("invalid audit batch %s throttle QPS %v, must be a positive number", name, b.ThrottleQPS)
	case b.ThrottleEnable && b.ThrottleBurst <= 0:
		return fmt.Errorf("invalid audit batch %s throttle burst %d, must be a positive number", name, b.ThrottleBurst)
	}
	return nil
}
