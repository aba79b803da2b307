package config

import (
	"fmt"
	"sort"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// duration is a flag that sets a duration of the configuration file.
type duration struct {
	flag, path string
	at         *time.Duration
}

func (c *Config) durations() []duration {
	k := c.Kubelet
	return []duration{
		{"sync-frequency", "syncFrequency", &k.SyncFrequency.Duration},
		{"file-check-frequency", "fileCheckFrequency", &k.FileCheckFrequency.Duration},
		{"http-check-frequency", "httpCheckFrequency", &k.HTTPCheckFrequency.Duration},
		{"authorization-webhook-cache-authorized-ttl", "authorization.webhook.cacheAuthorizedTTL", &k.Authorization.Webhook.CacheAuthorizedTTL.Duration},
		{"authorization-webhook-cache-unauthorized-ttl", "authorization.webhook.cacheUnauthorizedTTL", &k.Authorization.Webhook.CacheUnauthorizedTTL.Duration},
		{"streaming-connection-idle-timeout", "streamingConnectionIdleTimeout", &k.StreamingConnectionIdleTimeout.Duration},
		{"node-status-update-frequency", "nodeStatusUpdateFrequency", &k.NodeStatusUpdateFrequency.Duration},
		{"minimum-image-ttl-duration", "imageMinimumGCAge", &k.ImageMinimumGCAge.Duration},
		{"volume-stats-agg-period", "volumeStatsAggPeriod", &k.VolumeStatsAggPeriod.Duration},
		{"cpu-manager-reconcile-period", "cpuManagerReconcilePeriod", &k.CPUManagerReconcilePeriod.Duration},
		{"runtime-request-timeout", "runtimeRequestTimeout", &k.RuntimeRequestTimeout.Duration},
		{"eviction-pressure-transition-period", "evictionPressureTransitionPeriod", &k.EvictionPressureTransitionPeriod.Duration},
		{"cpu-cfs-quota-period", "cpuCFSQuotaPeriod", &k.CPUCFSQuotaPeriod.Duration},
	}
}

// mapValue is a flag of pairs key<sep>value, separated by commas; each use replaces the whole map.
type mapValue struct {
	m   *map[string]string
	sep string
}

func (v *mapValue) String() string {
	if v.m == nil {
		return ""
	}
	out := make([]string, 0, len(*v.m))
	for k, val := range *v.m {
		out = append(out, k+v.sep+val)
	}
	sort.Strings(out)
	return strings.Join(out, ",")
}

func (v *mapValue) Type() string { return "mapStringString" }

func (v *mapValue) Set(s string) error {
	m := map[string]string{}
	for _, pair := range strings.Split(s, ",") {
		if strings.TrimSpace(pair) == "" {
			continue
		}
		key, val, ok := strings.Cut(pair, v.sep)
		if !ok {
			return fmt.Errorf("%q is not key%svalue", pair, v.sep)
		}
		m[strings.TrimSpace(key)] = strings.TrimSpace(val)
	}
	*v.m = m
	return nil
}

type gateValue struct{ m *map[string]bool }

func (v *gateValue) String() string {
	if v.m == nil {
		return ""
	}
	out := make([]string, 0, len(*v.m))
	for k, on := range *v.m {
		out = append(out, fmt.Sprintf("%s=%t", k, on))
	}
	sort.Strings(out)
	return strings.Join(out, ",")
}

func (v *gateValue) Type() string { return "mapStringBool" }

func (v *gateValue) Set(s string) error {
	raw := map[string]string{}
	if err := (&mapValue{&raw, "="}).Set(s); err != nil {
		return err
	}
	m := map[string]bool{}
	for k, val := range raw {
		on, err := strconv.ParseBool(val)
		if err != nil {
			return fmt.Errorf("feature gate %s: %q is neither true nor false", k, val)
		}
		m[k] = on
	}
	*v.m = m
	return nil
}

type headerValue struct{ m *map[string][]string }

func (v *headerValue) String() string { return "" }

func (v *headerValue) Type() string { return "colonSeparatedMultimapStringString" }

func (v *headerValue) Set(s string) error {
	if *v.m == nil {
		*v.m = map[string][]string{}
	}
	for _, pair := range strings.Split(s, ",") {
		key, val, ok := strings.Cut(pair, ":")
		if !ok {
			return fmt.Errorf("%q is not name:value", pair)
		}
		(*v.m)[key] = append((*v.m)[key], val)
	}
	return nil
}

type taintsValue struct{ list *[]corev1.Taint }

func (v *taintsValue) String() string {
	if v.list == nil {
		return ""
	}
	out := make([]string, 0, len(*v.list))
	for i := range *v.list {
		out = append(out, (*v.list)[i].ToString())
	}
	return strings.Join(out, ",")
}

func (v *taintsValue) Type() string { return "" }

func (v *taintsValue) Set(s string) error {
	var out []corev1.Taint
	for _, item := range strings.Split(s, ",") {
		if item == "" {
			continue
		}
		i := strings.LastIndex(item, ":")
		if i < 0 {
			return fmt.Errorf("%q is not key=value:effect", item)
		}
		key, value, _ := strings.Cut(item[:i], "=")
		out = append(out, corev1.Taint{Key: key, Value: value, Effect: corev1.TaintEffect(item[i+1:])})
	}
	*v.list = out
	return nil
}
