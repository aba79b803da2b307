package resource

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/util/version"
)

func TestSurface(t *testing.T) {
	served := func(s *Surface) string {
		var out []string
		for _, k := range Kinds() {
			if s.Serves(k.GVR(), k.Kind) {
				out = append(out, k.GroupVersion().String()+"/"+k.Resource)
			}
		}
		return " " + strings.Join(out, " ") + " "
	}
	all := served(&Surface{})
	for name, c := range map[string]struct {
		s    Surface
		off  []string
		kept []string
	}{
		"a version":           {Surface{Config: map[string]string{"batch/v1": "false"}}, []string{"batch/v1/jobs", "batch/v1/cronjobs"}, []string{"apps/v1/deployments"}},
		"a resource":          {Surface{Config: map[string]string{"batch/v1/cronjobs": "false"}}, []string{"batch/v1/cronjobs"}, []string{"batch/v1/jobs"}},
		"all but one version": {Surface{Config: map[string]string{"api/all": "false", "v1": "true"}}, []string{"apps/v1/deployments"}, []string{"v1/pods"}},
		"all but a resource":  {Surface{Config: map[string]string{"api/all": "false", "apps/v1/deployments": ""}}, []string{"apps/v1/daemonsets", "v1/pods"}, []string{"apps/v1/deployments"}},
		"and back":            {Surface{Config: map[string]string{"api/all": "false", "api/ga": "true"}}, nil, []string{"v1/pods", "apps/v1/deployments"}},
		"the version before":  {Surface{Emulated: version.MajorMinor(1, 36)}, []string{"certificates.k8s.io/v1/podcertificaterequests", "storagemigration.k8s.io/v1/storageversionmigrations"}, []string{"resource.k8s.io/v1/resourceclaims"}},
		"three before":        {Surface{Emulated: version.MajorMinor(1, 34)}, []string{"admissionregistration.k8s.io/v1/mutatingadmissionpolicies"}, []string{"resource.k8s.io/v1/resourceclaims"}},
		"this one":            {Surface{Emulated: version.MajorMinor(1, 37)}, nil, strings.Fields(all)},
	} {
		t.Run(name, func(t *testing.T) {
			got := served(&c.s)
			for _, r := range c.off {
				if strings.Contains(got, " "+r+" ") || !strings.Contains(all, " "+r+" ") {
					t.Errorf("%s is served", r)
				}
			}
			for _, r := range c.kept {
				if !strings.Contains(got, " "+r+" ") {
					t.Errorf("%s is not served", r)
				}
			}
		})
	}
	for name, c := range map[string]struct {
		config        map[string]string
		missing, want string
	}{
		"good":                    {map[string]string{"apps/v1": "true", "v1": "true", "batch/v1/jobs": "false"}, "", ""},
		"a class that is not":     {map[string]string{"api/beta": "true", "api/alpha": "true", "api/all": "true"}, "api/alpha api/beta", ""},
		"nothing":                 {map[string]string{"api/all": "false"}, "", "invalid runtime-config with only api/all=false"},
		"a key":                   {map[string]string{"apps": "true"}, "", "runtime-config invalid key apps"},
		"a value":                 {map[string]string{"apps/v1": "perhaps"}, "", "invalid value of apps/v1: perhaps"},
		"a class's value":         {map[string]string{"api/all": "yes"}, "", "invalid value api/all=yes"},
		"a group":                 {map[string]string{"no.such/v1": "true"}, "", "unknown api groups no.such/v1"},
		"a version":               {map[string]string{"apps/v7": "true"}, "", "group version apps/v7 that has not been registered"},
		"a version of upstream's": {map[string]string{"resource.k8s.io/v1beta2": "true"}, "", "resource.k8s.io/v1beta2 is not served by this version"},
		"a version that was":      {map[string]string{"apps/v1beta1": "true", "policy/v1beta1": "true"}, "", ""},
		"a resource":              {map[string]string{"apps/v1/Deployments": "true"}, "", `resource is always lowercase plural, not "Deployments"`},
		"reviews":                 {map[string]string{"authorization.k8s.io/v1": "false"}, "", "authorization.k8s.io/v1 cannot be turned off"},
	} {
		t.Run("check "+name, func(t *testing.T) {
			missing, err := (&Surface{Config: c.config}).Check(Kinds())
			if (err != nil || c.want != "") && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("%v, want %s", err, c.want)
			}
			if got := strings.Join(missing, " "); got != c.missing {
				t.Errorf("missing %q, want %q", got, c.missing)
			}
		})
	}
}
