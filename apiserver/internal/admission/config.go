package admission

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation/field"
	apiserverv1 "k8s.io/apiserver/pkg/apis/apiserver/v1"
	podsecurityapi "k8s.io/pod-security-admission/admission/api"
	"k8s.io/pod-security-admission/admission/api/load"
	"k8s.io/pod-security-admission/admission/api/validation"
	"k8s.io/pod-security-admission/api"
	"sigs.k8s.io/yaml"
)

// Files is what --admission-control-config-file says of each plugin, by its name; nil where it says nothing.
type Files map[string][]byte

// fileVersions are those of an AdmissionConfiguration; they have the same fields.
var fileVersions = []string{"apiserver.config.k8s.io/v1", "apiserver.config.k8s.io/v1alpha1"}

// ReadFiles reads an AdmissionConfiguration, and the files that it names.
//
// Errors: a file cannot be read or is wrong.
func ReadFiles(path string) (Files, error) {
	if path == "" {
		return nil, nil
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var c apiserverv1.AdmissionConfiguration
	if err := yaml.UnmarshalStrict(data, &c); err != nil {
		return nil, err
	}
	if c.Kind != "AdmissionConfiguration" || !slices.Contains(fileVersions, c.APIVersion) {
		return nil, fmt.Errorf("it is of apiVersion %q and kind %q, not of %s and AdmissionConfiguration", c.APIVersion, c.Kind, fileVersions[0])
	}
	out := Files{}
	for i, p := range c.Plugins {
		at := fmt.Sprintf("plugins[%d] (%s)", i, p.Name)
		switch {
		case out[p.Name] != nil: // the first counts
		case p.Configuration != nil:
			out[p.Name] = p.Configuration.Raw
		case p.Path != "":
			file := p.Path
			if !filepath.IsAbs(file) {
				file = filepath.Join(filepath.Dir(path), file)
			}
			if out[p.Name], err = os.ReadFile(file); err != nil {
				return nil, fmt.Errorf("%s: %w", at, err)
			}
		}
	}
	return out, nil
}

// decode reads a plugin's configuration, of the kind Configuration; one that is not there leaves into as it is.
func (f Files) decode(plugin, version string, into any) error {
	data := f[plugin]
	if data == nil {
		return nil
	}
	var have metav1.TypeMeta
	if err := yaml.Unmarshal(data, &have); err != nil {
		return fmt.Errorf("%s: %w", plugin, err)
	}
	if have.Kind != "Configuration" || have.APIVersion != version {
		return fmt.Errorf("%s: it is of apiVersion %q and kind %q, not of %s and Configuration", plugin, have.APIVersion, have.Kind, version)
	}
	if err := yaml.Unmarshal(data, into); err != nil {
		return fmt.Errorf("%s: %w", plugin, err)
	}
	return nil
}

// decodeStrict is decode for a configuration of one of some kinds, in which there may be no unknown fields.
func (f Files) decodeStrict(plugin string, into any, kinds ...metav1.TypeMeta) error {
	data := f[plugin]
	if data == nil {
		return nil
	}
	var have metav1.TypeMeta
	if err := yaml.Unmarshal(data, &have); err != nil {
		return fmt.Errorf("%s: %w", plugin, err)
	}
	if !slices.Contains(kinds, have) {
		return fmt.Errorf("%s: it is of apiVersion %q and kind %q, not of %s and %s", plugin, have.APIVersion, have.Kind, kinds[0].APIVersion, kinds[0].Kind)
	}
	if err := yaml.UnmarshalStrict(data, into); err != nil {
		return fmt.Errorf("%s: %w", plugin, err)
	}
	return nil
}

// PluginFiles are the files that a plugin of webhooks or policies is configured by, each empty for none.
type PluginFiles struct {
	// KubeConfigFile has the credentials that are shown to webhooks.
	KubeConfigFile string `json:"kubeConfigFile"`
	// StaticManifestsDir is a folder of webhooks or policies, KEP-5793.
	StaticManifestsDir string `json:"staticManifestsDir"`
}

// pluginKinds are the kinds of those configurations.
var pluginKinds = map[string]string{
	"MutatingAdmissionWebhook": "WebhookAdmissionConfiguration", "ValidatingAdmissionWebhook": "WebhookAdmissionConfiguration",
	"MutatingAdmissionPolicy": "MutatingAdmissionPolicyConfiguration", "ValidatingAdmissionPolicy": "ValidatingAdmissionPolicyConfiguration",
}

// Plugin are the files of a plugin of webhooks or policies.
//
// Errors: its configuration is wrong, or a path is not absolute, or the folder is not there.
func (f Files) Plugin(name string) (PluginFiles, error) {
	var c struct {
		metav1.TypeMeta `json:",inline"`
		PluginFiles     `json:",inline"`
	}
	kind := pluginKinds[name]
	if err := f.decodeStrict(name, &c, metav1.TypeMeta{APIVersion: "apiserver.config.k8s.io/v1", Kind: kind}); err != nil {
		return PluginFiles{}, err
	}
	if c.KubeConfigFile != "" && kind != "WebhookAdmissionConfiguration" {
		return PluginFiles{}, fmt.Errorf("%s: unknown field \"kubeConfigFile\"", name)
	}
	p := field.NewPath("kubeConfigFile")
	if c.KubeConfigFile != "" && !filepath.IsAbs(c.KubeConfigFile) {
		return PluginFiles{}, fmt.Errorf("%s: %w", name, field.Invalid(p, c.KubeConfigFile, "must be an absolute file path"))
	}
	p = field.NewPath("staticManifestsDir")
	if dir := c.StaticManifestsDir; dir != "" {
		if !filepath.IsAbs(dir) {
			return PluginFiles{}, fmt.Errorf("%s: %w", name, field.Invalid(p, dir, "must be an absolute file path"))
		}
		switch info, err := os.Stat(dir); {
		case err != nil:
			return PluginFiles{}, fmt.Errorf("%s: %w", name, field.Invalid(p, dir, fmt.Sprintf("unable to read: %v", err)))
		case !info.IsDir():
			return PluginFiles{}, fmt.Errorf("%s: %w", name, field.Invalid(p, dir, "must be a directory"))
		}
	}
	return c.PluginFiles, nil
}

// podSecurityConfig is what holds where a namespace has no labels, and who is exempt.
type podSecurityConfig struct {
	defaults api.Policy
	exempt   podsecurityapi.PodSecurityExemptions
}

func (f Files) podSecurity() (podSecurityConfig, error) {
	c, err := load.LoadFromData(f["PodSecurity"])
	if err != nil {
		return podSecurityConfig{}, fmt.Errorf("PodSecurity: %w", err)
	}
	if errs := validation.ValidatePodSecurityConfiguration(c); len(errs) > 0 {
		return podSecurityConfig{}, fmt.Errorf("PodSecurity: %w", errs.ToAggregate())
	}
	defaults, err := podsecurityapi.ToPolicy(c.Defaults)
	if err != nil {
		return podSecurityConfig{}, fmt.Errorf("PodSecurity: %w", err)
	}
	return podSecurityConfig{defaults, c.Exemptions}, nil
}

// nodeSelectors are PodNodeSelector's, by namespace; clusterDefaultNodeSelector is for those without an annotation.
func (f Files) nodeSelectors() (map[string]labels.Set, error) {
	data := f["PodNodeSelector"]
	if len(bytes.TrimSpace(data)) == 0 {
		return nil, nil
	}
	var c struct {
		Selectors map[string]string `json:"podNodeSelectorPluginConfig"`
	}
	if err := yaml.Unmarshal(data, &c); err != nil {
		return nil, fmt.Errorf("PodNodeSelector: %w", err)
	}
	if c.Selectors == nil {
		return nil, errors.New("PodNodeSelector: there is no podNodeSelectorPluginConfig")
	}
	out := make(map[string]labels.Set, len(c.Selectors))
	for namespace, text := range c.Selectors {
		set, err := labels.ConvertSelectorToLabelsMap(text)
		if err != nil {
			return nil, fmt.Errorf("PodNodeSelector: podNodeSelectorPluginConfig.%s: %w", namespace, err)
		}
		out[namespace] = set
	}
	return out, nil
}
