package options

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

type config struct {
	BindAddress string   `json:"bindAddress,omitempty"`
	Leader      leader   `json:"leader"`
	Paths       []string `json:"paths,omitempty"`
}

type leader struct {
	Seconds int `json:"seconds"`
}

func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestOriginOfEachValue(t *testing.T) {
	c := config{BindAddress: "0.0.0.0", Leader: leader{Seconds: 15}}
	s := New("kube-test")
	s.Flags().StringSliceVar(&c.Paths, "paths", nil, "")
	s.Flags().String("name", "x", "")
	s.Inert("cloud-provider", InertString, "there is no cloud provider")
	s.Flags().IntVar(&c.Leader.Seconds, "leader-seconds", c.Leader.Seconds, "")
	s.Bind("paths", "paths")
	s.Bind("leader-seconds", "leader.seconds")
	if err := s.Parse([]string{"--paths=/flag", "--cloud-provider=external"}, io.Discard); err != nil {
		t.Fatal(err)
	}
	path := write(t, "c.yaml", "# comment\nleader:\n  seconds: 20\npaths: [/file]\n")
	if err := s.LoadFile(path, &c); err != nil {
		t.Fatal(err)
	}
	if err := s.ReapplyFlags(); err != nil {
		t.Fatal(err)
	}
	want := []Option{
		{Name: "--cloud-provider", Value: "[external]", Default: "[]", Origin: Origin{Kind: Flag}, Inert: "there is no cloud provider"},
		{Name: "--leader-seconds", Value: "20", Default: "15", Origin: Origin{Kind: File, Source: path, Line: 3}},
		{Name: "--name", Value: "x", Default: "x"},
		{Name: "--paths", Value: "[/flag]", Default: "[]", Origin: Origin{Kind: Flag}},
		{Name: "bindAddress", Value: "0.0.0.0", Default: "0.0.0.0"},
		{Name: "leader.seconds", Value: "20", Default: "15", Origin: Origin{Kind: File, Source: path, Line: 3}},
		{Name: "paths[0]", Value: "/flag", Default: "/flag", Origin: Origin{Kind: Flag}},
	}
	if diff := cmp.Diff(want, s.List()); diff != "" {
		t.Errorf("options (-want +got):\n%s", diff)
	}
}

func TestEnvironmentStandsBelowFlags(t *testing.T) {
	t.Setenv("TEST_ROUTES", "true")
	for scenario, tc := range map[string]struct {
		args []string
		want Option
	}{
		"not given": {want: Option{Name: "--routes", Value: "true", Default: "false", Origin: Origin{Kind: Environment, Source: "TEST_ROUTES"}}},
		"given":     {args: []string{"--routes=false"}, want: Option{Name: "--routes", Value: "false", Default: "false", Origin: Origin{Kind: Flag}}},
	} {
		t.Run(scenario, func(t *testing.T) {
			s := New("kube-test")
			routes := s.Flags().Bool("routes", false, "")
			s.Environment("routes", "TEST_ROUTES")
			if err := s.Parse(tc.args, io.Discard); err != nil {
				t.Fatal(err)
			}
			if err := s.ReapplyFlags(); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]Option{tc.want}, s.List()); diff != "" || *routes != (tc.want.Value == "true") {
				t.Errorf("options (-want +got), routes %v:\n%s", *routes, diff)
			}
		})
	}
	t.Setenv("TEST_ROUTES", "perhaps")
	s := New("kube-test")
	s.Flags().Bool("routes", false, "")
	s.Environment("routes", "TEST_ROUTES")
	if err := s.Parse(nil, io.Discard); err == nil || !strings.Contains(err.Error(), "TEST_ROUTES") {
		t.Errorf("error %v: want one that names the variable", err)
	}
}

func TestVersionIsPrinted(t *testing.T) {
	for arg, want := range map[string]string{"--version": "Kubernetes v1.37.", "--version=true": "Kubernetes v1.37.", "--version=raw": `GitVersion:"v1.37.`, "--version=false": ""} {
		var out strings.Builder
		s := New("kube-test")
		if err := s.Parse([]string{arg}, &out); errors.Is(err, ErrHelp) != (want != "") {
			t.Errorf("%s: %v", arg, err)
		}
		if !strings.Contains(out.String(), want) {
			t.Errorf("%s prints %q, want %q", arg, out.String(), want)
		}
		if n := len(s.List()); n != 0 {
			t.Errorf("%s: %d options are listed, want none", arg, n)
		}
	}
	if err := New("kube-test").Parse([]string{"--version=v1.2.3"}, io.Discard); err == nil || errors.Is(err, ErrHelp) {
		t.Errorf("--version=v1.2.3: %v", err)
	}
}

func TestErrorsNameTheCulprit(t *testing.T) {
	for scenario, tc := range map[string]struct {
		args []string
		file string
		want string
	}{
		"unknown flag":  {args: []string{"--frobnicate=1"}, want: "--frobnicate"},
		"bad value":     {args: []string{"--count=many"}, want: "--count"},
		"argument":      {args: []string{"serve"}, want: `"serve"`},
		"unknown key":   {file: "bindAdress: x\n", want: `"bindAdress"`},
		"duplicate key": {file: "leader: {seconds: 1}\nleader: {seconds: 2}\n", want: "leader"},
		"wrong type":    {file: "leader: {seconds: soon}\n", want: "seconds"},
	} {
		t.Run(scenario, func(t *testing.T) {
			s := New("kube-test")
			s.Flags().Int("count", 1, "")
			err := s.Parse(tc.args, io.Discard)
			if tc.file != "" {
				err = s.LoadFile(write(t, "c.yaml", tc.file), &config{})
			}
			if err == nil || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("error %v: want one line naming %s", err, tc.want)
			}
		})
	}
}

func TestDropInsWinInOrder(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"10-a.conf": "leader: {seconds: 1}\n", "20-b.conf": "leader: {seconds: 2}\n", "x.yaml": "leader: {seconds: 3}\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c, s := config{}, New("kube-test")
	if err := s.LoadDropIns(dir, &c); err != nil {
		t.Fatal(err)
	}
	got := s.List()
	if c.Leader.Seconds != 2 || got[0].Origin.Kind != DropIn || !strings.HasSuffix(got[0].Origin.Source, "20-b.conf") {
		t.Errorf("config %+v, options %+v: want 2 from 20-b.conf", c, got)
	}
}
