// Package version holds the version that this build speaks and is.
//
// Data in: values stamped by the linker. Data out: the answer of /version and
// of the Component service. It owns no goroutine.
package version

import (
	"runtime"
	"strconv"
	"strings"

	apiversion "k8s.io/apimachinery/pkg/version"
)

// Stamped by -ldflags "-X flagship/internal/version.gitCommit=…".
var (
	gitVersion   = "v1.37.2+flagship"
	gitCommit    = "unknown"
	gitTreeState = "unknown"
	buildDate    = "1970-01-01T00:00:00Z"
)

// before is the minor version before, with which a server of this one gets along.
func before(minor string) string {
	n, err := strconv.Atoi(minor)
	if err != nil {
		return ""
	}
	return strconv.Itoa(n - 1)
}

// Get returns the version in the form of the API server's /version.
func Get() apiversion.Info {
	major, minor := "", ""
	if parts := strings.SplitN(strings.TrimPrefix(gitVersion, "v"), ".", 3); len(parts) == 3 {
		major, minor = parts[0], parts[1]
	}
	return apiversion.Info{
		Major:                 major,
		Minor:                 minor,
		EmulationMajor:        major,
		EmulationMinor:        minor,
		MinCompatibilityMajor: major,
		MinCompatibilityMinor: before(minor),
		GitVersion:            gitVersion,
		GitCommit:             gitCommit,
		GitTreeState:          gitTreeState,
		BuildDate:             buildDate,
		GoVersion:             runtime.Version(),
		Compiler:              runtime.Compiler,
		Platform:              runtime.GOOS + "/" + runtime.GOARCH,
	}
}
