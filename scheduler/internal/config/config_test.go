package config

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func load(t *testing.T, file string, args ...string) (*Config, error) {
	t.Helper()
	if file != "" {
		path := filepath.Join(t.TempDir(), "c.yaml")
		if err := os.WriteFile(path, []byte("apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\n"+file), 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, "--config", path)
	}
	return Load(args, io.Discard)
}

// TestDefaultProfile pins the default plugins and weights.
func TestDefaultProfile(t *testing.T) {
	c, err := load(t, "")
	if err != nil {
		t.Fatal(err)
	}
	p := c.Profiles[0]
	want := []Scorer{{"TaintToleration", 3}, {"NodeAffinity", 2}, {"NodeResourcesFit", 1}, {"PodTopologySpread", 2}, {"InterPodAffinity", 2}, {"NodeResourcesBalancedAllocation", 1}, {"ImageLocality", 1}}
	if d := cmp.Diff(want, p.Scorers); d != "" {
		t.Error(d)
	}
	if p.Name != "default-scheduler" || !p.Preempt || !p.Gates || len(p.Filters) != 13 || !c.Leader.Elect {
		t.Errorf("profile %+v, leader election %v", p, c.Leader.Elect)
	}
}

func TestProfiles(t *testing.T) {
	c, err := load(t, `
leaderElection: {leaderElect: false}
profiles:
- schedulerName: packer
  plugins:
    multiPoint: {disabled: [{name: DefaultPreemption}]}
    score: {disabled: [{name: "*"}], enabled: [{name: NodeResourcesFit, weight: 7}]}
  pluginConfig: [{name: NodeResourcesFit, args: {scoringStrategy: {type: MostAllocated}}}]
- schedulerName: default-scheduler
  plugins: {filter: {disabled: [{name: NodePorts}]}}
`, "--leader-elect=true")
	if err != nil {
		t.Fatal(err)
	}
	p := c.Profiles[0]
	if d := cmp.Diff([]Scorer{{"NodeResourcesFit", 7}}, p.Scorers); d != "" || p.Preempt || p.Args.Fit.ScoringStrategy.Type != "MostAllocated" || len(p.Args.Fit.ScoringStrategy.Resources) != 2 {
		t.Errorf("%s %+v", d, p)
	}
	if strings.Contains(strings.Join(c.Profiles[1].Filters, " "), "NodePorts") {
		t.Error("NodePorts is not disabled")
	}
	if !c.Leader.Elect {
		t.Error("the flag does not win over the file")
	}
}

func TestErrors(t *testing.T) {
	for name, c := range map[string]struct{ file, arg, want string }{
		"unknown flag":     {arg: "--no-such-flag", want: "no-such-flag"},
		"unknown key":      {file: "podInitialBackoff: 1", want: "podInitialBackoff"},
		"unknown plugin":   {file: "profiles: [{plugins: {multiPoint: {enabled: [{name: Nope}]}}}]", want: `plugin "Nope" does not exist`},
		"unknown argument": {file: "profiles: [{pluginConfig: [{name: InterPodAffinity, args: {weight: 1}}]}]", want: "weight"},
		"two profiles":     {file: "profiles: [{schedulerName: a}, {schedulerName: a}]", want: "duplicate"},
		"backoff":          {file: "podInitialBackoffSeconds: 20", want: "podMaxBackoffSeconds"},
		"extenders":        {file: "extenders: [{urlPrefix: http://x}]", want: "extenders"},
	} {
		t.Run(name, func(t *testing.T) {
			var args []string
			if c.arg != "" {
				args = append(args, c.arg)
			}
			_, err := load(t, c.file, args...)
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("error %v, want one line with %q", err, c.want)
			}
		})
	}
}
