package resource

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/version"
	"k8s.io/client-go/kubernetes/scheme"
)

// Surface is which of the built-in resources are served.
type Surface struct {
	// Config is --runtime-config: api/all, api/ga, api/beta, api/alpha, GROUP/VERSION and GROUP/VERSION/RESOURCE, each true (or empty) or false.
	Config map[string]string
	// Emulated is the version whose resources are served: later ones are not. Nil is for all.
	Emulated *version.Version
}

// levels are the names for many versions at one time, in the order in which they apply.
var levels = []struct {
	name    string
	version *regexp.Regexp
}{
	{"api/all", regexp.MustCompile(``)},
	{"api/ga", regexp.MustCompile(`^v\d+$`)},
	{"api/beta", regexp.MustCompile(`^v\d+beta\d+$`)},
	{"api/alpha", regexp.MustCompile(`^v\d+alpha\d+$`)},
}

func levelOf(name string) *regexp.Regexp {
	for _, c := range levels {
		if c.name == name {
			return c.version
		}
	}
	return nil
}

// Serves says whether a resource is served, of a kind that objects are made of (or nil, of none).
func (s *Surface) Serves(gvr schema.GroupVersionResource, kind string) bool {
	if s.later(gvr.GroupVersion().WithKind(kind)) {
		return false
	}
	on := true
	for _, c := range levels {
		if text, ok := s.Config[c.name]; ok && c.version.MatchString(gvr.Version) {
			on = text != "false"
		}
	}
	gv := gvr.GroupVersion().String()
	for _, key := range []string{gv, gv + "/" + gvr.Resource, "/" + gv, "/" + gv + "/" + gvr.Resource} {
		if text, ok := s.Config[key]; ok {
			if set, err := enabled(text); err == nil {
				on = set
			}
		}
	}
	return on
}

// later is whether a kind was introduced after the emulated version.
func (s *Surface) later(gvk schema.GroupVersionKind) bool {
	if s.Emulated == nil {
		return false
	}
	obj, err := scheme.Scheme.New(gvk)
	if err != nil {
		return false
	}
	kind, ok := obj.(interface{ APILifecycleIntroduced() (major, minor int) })
	if !ok {
		return false
	}
	major, minor := kind.APILifecycleIntroduced()
	return s.Emulated.LessThan(version.MajorMinor(uint(major), uint(minor))) //nolint:gosec // versions of Kubernetes
}

func enabled(text string) (bool, error) {
	if text == "" {
		return true, nil
	}
	return strconv.ParseBool(text)
}

// Check says what is wrong with Config, and returns what it asks for that there is not, of levels of versions.
//
// Errors: a key or a value is none, a group or a version is unknown, or a version is asked for whose resources are not served by this server.
func (s *Surface) Check(kinds []*Kind) (missing []string, err error) {
	if len(s.Config) == 1 && s.Config["api/all"] == "false" {
		return nil, errors.New("invalid runtime-config with only api/all=false")
	}
	var unknown []string
	for _, key := range slices.Sorted(maps.Keys(s.Config)) {
		text := s.Config[key]
		if c := levelOf(key); c != nil {
			if text != "true" && text != "false" {
				return nil, fmt.Errorf("invalid value %s=%s", key, text)
			}
			if text == "true" && !slices.ContainsFunc(kinds, func(k *Kind) bool { return c.MatchString(k.Version) }) {
				missing = append(missing, key)
			}
			continue
		}
		parts := strings.Split(strings.TrimPrefix(key, "/"), "/")
		if parts[0] == "v1" {
			parts = append([]string{""}, parts...)
		}
		if len(parts) != 2 && len(parts) != 3 {
			return nil, fmt.Errorf("runtime-config invalid key %s", key)
		}
		gv := schema.GroupVersion{Group: parts[0], Version: parts[1]}
		on, err := enabled(text)
		if err != nil {
			return nil, fmt.Errorf("invalid value of %s: %s, err: %w", key, text, err)
		}
		switch has := slices.ContainsFunc(kinds, func(k *Kind) bool { return k.GroupVersion() == gv }); {
		case has:
		case !on && (gv.Group == "authentication.k8s.io" || gv.Group == "authorization.k8s.io"):
			return nil, fmt.Errorf("%s cannot be turned off in this version", gv)
		case !scheme.Scheme.IsGroupRegistered(gv.Group):
			unknown = append(unknown, gv.String())
			continue
		case !scheme.Scheme.IsVersionRegistered(gv):
			return nil, fmt.Errorf("group version %s that has not been registered", gv)
		case on && current(gv):
			return nil, fmt.Errorf("%s is not served by this version: leave it out", key)
		}
		if len(parts) == 3 && strings.ToLower(parts[2]) != parts[2] {
			return nil, fmt.Errorf("invalid key %s: group/version/resource and resource is always lowercase plural, not %q", key, parts[2])
		}
	}
	if len(unknown) > 0 {
		return nil, fmt.Errorf("unknown api groups %s", strings.Join(unknown, ","))
	}
	return missing, nil
}

// current is whether upstream's server has resources of a version, if it is asked for them: there are kinds of it that have not been removed.
func current(gv schema.GroupVersion) bool {
	if !levelOf("api/beta").MatchString(gv.Version) && !levelOf("api/alpha").MatchString(gv.Version) {
		return false // all that are stable are served, or by no resource
	}
	for kind := range scheme.Scheme.KnownTypes(gv) {
		obj, err := scheme.Scheme.New(gv.WithKind(kind))
		if err != nil {
			continue
		}
		if _, ok := obj.(interface{ APILifecycleIntroduced() (major, minor int) }); !ok {
			continue
		}
		removed, ok := obj.(interface{ APILifecycleRemoved() (major, minor int) })
		if !ok {
			return true
		}
		if major, minor := removed.APILifecycleRemoved(); version.MajorMinor(uint(major), uint(minor)).GreaterThan(version.MajorMinor(1, thisMinor)) { //nolint:gosec // versions of Kubernetes
			return true
		}
	}
	return false
}

// thisMinor is the minor version that the table of kinds is of.
const thisMinor = 37
