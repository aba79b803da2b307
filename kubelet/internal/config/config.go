package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	corev1 "k8s.io/api/core/v1"
	kubeletv1beta1 "k8s.io/kubelet/config/v1beta1"

	"flagship/internal/logging"
	"flagship/internal/options"
)

// Kubelet is the configuration file's type.
type Kubelet = kubeletv1beta1.KubeletConfiguration

// Config is everything the kubelet is told.
type Config struct {
	*Kubelet
	Kubeconfig, BootstrapKubeconfig string
	File, Dir                       string
	NodeIP, HostnameOverride        string
	RootDir, CertDir                string
	NodeLabels                      map[string]string
	CloudProvider                   string
	LockFile                        string
	ExitOnLockContention            bool
	Logging                         logging.Config
	Set                             *options.Set
}

// Load reads the arguments and the files they name. options.ErrHelp is returned after help or the version was printed.
func Load(args []string, out io.Writer) (*Config, error) {
	c := &Config{
		Kubelet: &Kubelet{}, RootDir: "/var/lib/kubelet", CertDir: "", NodeLabels: map[string]string{},
		Logging: logging.Config{Verbosity: 2, Format: "text"}, Set: options.New("kubelet"),
	}
	SetDefaults(c.Kubelet)
	c.flags()
	if err := c.Set.Document(c.Kubelet); err != nil {
		return nil, err
	}
	if err := c.Set.Parse(args, out); err != nil {
		return nil, err
	}
	if err := c.files(); err != nil {
		return nil, err
	}
	if c.CertDir == "" {
		c.CertDir = c.RootDir + "/pki"
	}
	if !c.Set.Flags().Changed("logging-format") && c.Kubelet.Logging.Format != "" {
		c.Logging.Format = c.Kubelet.Logging.Format
	}
	if !c.Set.Flags().Changed("v") && c.Kubelet.Logging.Verbosity > 0 {
		c.Logging.Verbosity = int(c.Kubelet.Logging.Verbosity)
	}
	return c, c.validate()
}

func (c *Config) files() error {
	if c.File != "" {
		if err := c.Set.LoadFile(c.File, c.Kubelet); err != nil {
			return err
		}
		if err := checkKind(c.Kubelet, c.File); err != nil {
			return err
		}
	}
	if c.Dir != "" {
		if err := c.Set.LoadDropIns(c.Dir, c.Kubelet); err != nil {
			return err
		}
		if err := checkKind(c.Kubelet, c.Dir); err != nil {
			return err
		}
	}
	if c.File != "" || c.Dir != "" {
		if err := c.Set.ReapplyFlags(); err != nil {
			return err
		}
	}
	SetDefaults(c.Kubelet)
	if c.Kubelet.EvictionHard == nil {
		c.Kubelet.EvictionHard = DefaultEvictionHard()
	} else if *c.Kubelet.MergeDefaultEvictionSettings {
		for k, v := range DefaultEvictionHard() {
			if _, ok := c.Kubelet.EvictionHard[k]; !ok {
				c.Kubelet.EvictionHard[k] = v
			}
		}
	}
	return nil
}

func checkKind(k *Kubelet, from string) error {
	if k.Kind != "KubeletConfiguration" || k.APIVersion != "kubelet.config.k8s.io/v1beta1" {
		return fmt.Errorf("read configuration %s: apiVersion %q, kind %q: only kubelet.config.k8s.io/v1beta1 KubeletConfiguration is accepted", from, k.APIVersion, k.Kind)
	}
	return nil
}

// Standalone reports that there is no API server to talk to.
func (c *Config) Standalone() bool { return c.Kubeconfig == "" && c.BootstrapKubeconfig == "" }

// Hostname is the machine's name as upstream uses it, or the override.
func (c *Config) Hostname() (string, error) {
	name := c.HostnameOverride
	if name == "" {
		var err error
		if name, err = os.Hostname(); err != nil {
			return "", fmt.Errorf("find the host name: %w", err)
		}
	}
	name = strings.ToLower(strings.TrimSpace(name))
	if name == "" {
		return "", errors.New("empty host name: set --hostname-override")
	}
	return name, nil
}

func (c *Config) validate() error {
	var errs []error
	bad := func(key, format string, args ...any) {
		errs = append(errs, fmt.Errorf("invalid configuration: %s: %s", key, fmt.Sprintf(format, args...)))
	}
	k := c.Kubelet
	for key, port := range map[string]int32{"port": k.Port, "readOnlyPort": k.ReadOnlyPort, "healthzPort": *k.HealthzPort} {
		if port < 0 || port > 65535 {
			bad(key, "%d is not between 0 and 65535", port)
		}
	}
	if k.CgroupDriver != "cgroupfs" && k.CgroupDriver != "systemd" {
		bad("cgroupDriver", "%q is neither cgroupfs nor systemd", k.CgroupDriver)
	}
	if m := k.Authorization.Mode; m != kubeletv1beta1.KubeletAuthorizationModeWebhook && m != kubeletv1beta1.KubeletAuthorizationModeAlwaysAllow {
		bad("authorization.mode", "%q is neither Webhook nor AlwaysAllow", m)
	}
	if *k.ImageGCLowThresholdPercent >= *k.ImageGCHighThresholdPercent {
		bad("imageGCLowThresholdPercent", "%d is not below imageGCHighThresholdPercent %d", *k.ImageGCLowThresholdPercent, *k.ImageGCHighThresholdPercent)
	}
	if *k.ContainerLogMaxFiles < 2 {
		bad("containerLogMaxFiles", "%d is less than 2", *k.ContainerLogMaxFiles)
	}
	if k.MaxPods < 0 {
		bad("maxPods", "%d is negative", k.MaxPods)
	}
	for key, v := range map[string]string{"cpuManagerPolicy": k.CPUManagerPolicy, "topologyManagerPolicy": k.TopologyManagerPolicy, "memoryManagerPolicy": strings.ToLower(k.MemoryManagerPolicy)} {
		if v != "none" {
			bad(key, "%q is not supported by this kubelet: only none is", v)
		}
	}
	for _, t := range k.RegisterWithTaints {
		if t.Key == "" || (t.Effect != corev1.TaintEffectNoSchedule && t.Effect != corev1.TaintEffectPreferNoSchedule && t.Effect != corev1.TaintEffectNoExecute) {
			bad("registerWithTaints", "%q has no key or an unknown effect", t.ToString())
		}
	}
	if k.RunOnce {
		bad("runOnce", "is not supported by this kubelet")
	}
	return errors.Join(errs...)
}
