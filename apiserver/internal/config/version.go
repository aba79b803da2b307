package config

import (
	"errors"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/util/version"
	apiversion "k8s.io/apimachinery/pkg/version"

	ownversion "flagship/internal/version"
)

// emulatedBack is how many minor versions may be emulated, KEP-4330.
const emulatedBack = 3

// effective are the versions that the server is, behaves as, and gets along with.
func (c *Config) effective() (apiversion.Info, *version.Version, error) {
	info := ownversion.Get()
	binary, err := version.Parse(info.Major + "." + info.Minor)
	if err != nil {
		return info, nil, fmt.Errorf("version of the binary: %w", err)
	}
	floor := binary.SubtractMinor(emulatedBack)
	emulated, compatible := binary, binary.SubtractMinor(1)
	given, err := versionOf(c.EmulatedVersion)
	if err != nil {
		return info, nil, fmt.Errorf("--emulated-version: %w", err)
	}
	if given != nil {
		emulated = given
		if compatible = given.SubtractMinor(1); compatible.LessThan(floor) {
			compatible = floor
		}
	}
	if given, err = versionOf(c.MinCompatibility); err != nil {
		return info, nil, fmt.Errorf("--min-compatibility-version: %w", err)
	}
	if given != nil {
		compatible = given
	}
	var errs []error
	if emulated.GreaterThan(binary) || emulated.LessThan(floor) {
		errs = append(errs, fmt.Errorf("emulation version %s is not between [%s, %s.0]", emulated, floor, binary))
	}
	if compatible.GreaterThan(emulated) || compatible.LessThan(floor) {
		errs = append(errs, fmt.Errorf("minCompatibilityVersion version %s is not between [%s, %s]", compatible, floor, emulated))
	}
	info.EmulationMajor, info.EmulationMinor = fmt.Sprint(emulated.Major()), fmt.Sprint(emulated.Minor())
	info.MinCompatibilityMajor, info.MinCompatibilityMinor = fmt.Sprint(compatible.Major()), fmt.Sprint(compatible.Minor())
	return info, emulated, errors.Join(errs...)
}

// versionOf reads [kube=]MAJOR.MINOR, nil where nothing is given. Versions of other components are theirs.
func versionOf(list []string) (out *version.Version, err error) {
	for _, text := range list {
		component, number, ok := strings.Cut(text, "=")
		if !ok {
			component, number = "kube", text
		}
		if component = strings.TrimSpace(component); component != "kube" {
			return nil, fmt.Errorf("component not registered: %s", component)
		}
		v, err := version.Parse(strings.TrimSpace(number))
		switch {
		case err != nil:
			return nil, err
		case v.Patch() != 0:
			return nil, fmt.Errorf("patch version not allowed, got: %s=%s", component, v)
		case out != nil:
			return nil, fmt.Errorf("duplicate version flag, %s=%s and %s=%s", component, out, component, v)
		}
		out = v
	}
	return out, nil
}

// runtimeConfig is the value of --runtime-config: pairs, of which one without a value is true.
type runtimeConfig map[string]string

// String implements pflag.Value.
func (m runtimeConfig) String() string {
	var out []string
	for k, v := range m {
		out = append(out, k+"="+v)
	}
	return strings.Join(out, ",")
}

// Set implements pflag.Value.
func (m runtimeConfig) Set(text string) error {
	for _, pair := range strings.Split(text, ",") {
		key, value, ok := strings.Cut(pair, "=")
		if !ok {
			value = "true"
		}
		m[strings.TrimSpace(key)] = strings.TrimSpace(value)
	}
	return nil
}

// Type implements pflag.Value.
func (m runtimeConfig) Type() string { return "mapStringString" }
