package options

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sort"
	"strings"

	"github.com/spf13/pflag"
	"go.uber.org/zap"

	"flagship/internal/version"
)

// Kind is where a value came from.
type Kind int

// The kinds of origin, in the order of precedence.
const (
	Default Kind = iota
	File
	DropIn
	Environment
	Flag
)

// Origin is where an effective value came from.
type Origin struct {
	Kind Kind
	// Source is the file's path or the environment variable, empty for defaults and flags.
	Source string
	// Line counts from 1, 0 where there is none.
	Line int
}

// String renders the origin for people, such as "/etc/x.yaml:12".
func (o Origin) String() string {
	switch o.Kind {
	case File:
		return fmt.Sprintf("%s:%d", o.Source, o.Line)
	case DropIn:
		return fmt.Sprintf("%s:%d (drop-in)", o.Source, o.Line)
	case Environment:
		return "environment " + o.Source
	case Flag:
		return "flag"
	default:
		return "default"
	}
}

// Option is one effective option.
type Option struct {
	// Name is a flag's name with two dashes, or the path of a key in the
	// configuration file such as leaderElection.leaseDuration.
	Name    string
	Value   string
	Default string
	Origin  Origin
	// Inert is why the option has no effect, empty where it has one.
	Inert string
}

// ErrHelp is returned by Parse when the arguments asked for help or the
// version; what was asked for has then been printed.
var ErrHelp = errors.New("help requested")

// versionFlag asks and sets nothing, so that it is not among the options that List returns.
const versionFlag = "version"

// Set is the options of one binary. It is not safe for concurrent use until
// it is parsed; afterwards List may be called from anywhere.
type Set struct {
	binary string
	fs     *pflag.FlagSet
	args   []string
	inert  map[string]string
	secret map[string]bool
	bound  map[string]string // configuration path → flag that overrides it
	env    map[string]string // flag → environment variable
	docs   []*document
}

// New returns an empty set for the binary.
func New(binary string) *Set {
	fs := pflag.NewFlagSet(binary, pflag.ContinueOnError)
	fs.SortFlags = true
	fs.SetOutput(io.Discard)
	fs.SetNormalizeFunc(func(_ *pflag.FlagSet, name string) pflag.NormalizedName {
		return pflag.NormalizedName(strings.ReplaceAll(name, "_", "-"))
	})
	fs.String(versionFlag, "false", "print the version and exit; =raw prints all that is known of the build")
	fs.Lookup(versionFlag).NoOptDefVal = "true"
	return &Set{
		binary: binary, fs: fs,
		inert: map[string]string{}, secret: map[string]bool{}, bound: map[string]string{}, env: map[string]string{},
	}
}

// Flags is where the binary registers its flags.
func (s *Set) Flags() *pflag.FlagSet { return s.fs }

// InertKind is the type of an inert flag's value.
type InertKind int

// The types of values that inert flags take.
const (
	InertString InertKind = iota
	InertBool
)

// Inert registers a flag that upstream has and that has no effect here. It is
// accepted, and WarnInert says why it does nothing.
func (s *Set) Inert(name string, kind InertKind, why string) {
	switch kind {
	case InertBool:
		s.fs.Bool(name, false, "accepted, without effect: "+why)
	default:
		// A string slice takes every value that an upstream flag may have, as
		// often as it is given.
		s.fs.StringArray(name, nil, "accepted, without effect: "+why)
	}
	s.inert[name] = why
}

// Secret hides the value of a flag in List.
func (s *Set) Secret(name string) { s.secret[name] = true }

// Bind says that a flag and a key of the configuration file set one value, so
// that the origin of both is the flag where it is given, and else the file.
// A key that holds a list or a map stands for all that is below it.
func (s *Set) Bind(flag, path string) { s.bound[path] = flag }

// Environment says that a variable of the environment sets a flag that is not given. It is for options that upstream's namesake
// of the binary would refuse as a flag or a key: a manifest with the variable is good for both.
func (s *Set) Environment(flag, variable string) { s.env[flag] = variable }

// flagOf is the flag that a key, or what the key is a part of, is bound to.
func (s *Set) flagOf(path string) string {
	for path != "" {
		if flag := s.bound[path]; flag != "" {
			return flag
		}
		path = path[:max(0, strings.LastIndexAny(path, ".["))]
	}
	return ""
}

// fromFiles is what the files say of the flags that are bound to keys, by flag:
// of a list or a map the origin of its first line, of a single value that too.
func (s *Set) fromFiles() map[string]Option {
	out := map[string]Option{}
	for _, d := range s.docs {
		values, _ := flatten(d.into) // Document has done it before
		for path, origin := range d.origins {
			flag := s.flagOf(path)
			old, ok := out[flag]
			later := old.Origin.Source == origin.Source && old.Origin.Line < origin.Line || old.Origin.Kind > origin.Kind
			if flag == "" || ok && later {
				continue
			}
			o := Option{Origin: origin}
			if s.bound[path] == flag {
				o.Value = values[path]
			}
			out[flag] = o
		}
	}
	return out
}

// Parse reads the arguments. An error is one line that names the flag.
// It returns ErrHelp after printing usage to out for --help, or the version, as
// upstream's binaries print it, for --version.
func (s *Set) Parse(args []string, out io.Writer) error {
	s.args = slices.Clone(args)
	err := s.fs.Parse(args)
	switch {
	case errors.Is(err, pflag.ErrHelp):
		fmt.Fprintf(out, "Usage: %s [flags]\n\nFlags:\n%s", s.binary, s.fs.FlagUsagesWrapped(120))
		return ErrHelp
	case err != nil:
		return fmt.Errorf("%w; see %s --help", err, s.binary)
	}
	switch asked := s.fs.Lookup(versionFlag).Value.String(); asked {
	case "", "false":
	case "true":
		fmt.Fprintf(out, "Kubernetes %s\n", version.Get().GitVersion)
		return ErrHelp
	case "raw":
		fmt.Fprintf(out, "%#v\n", version.Get())
		return ErrHelp
	default:
		return fmt.Errorf("--version=%s: only --version and --version=raw are supported", asked)
	}
	if rest := s.fs.Args(); len(rest) > 0 {
		return fmt.Errorf("unexpected argument %q: it takes flags only; see %s --help", rest[0], s.binary)
	}
	return s.readEnvironment()
}

// readEnvironment sets the flags that have a variable and are not given.
func (s *Set) readEnvironment() error {
	for name, variable := range s.env {
		f := s.fs.Lookup(name)
		if value := os.Getenv(variable); !f.Changed && value != "" {
			if err := f.Value.Set(value); err != nil {
				return fmt.Errorf("environment variable %s: %w", variable, err)
			}
			continue
		}
		delete(s.env, name)
	}
	return nil
}

// ReapplyFlags sets the given flags once more, so that those bound to fields
// of a configuration file's struct win over the file.
func (s *Set) ReapplyFlags() error {
	seen := map[string]bool{}
	return s.fs.ParseAll(s.args, func(f *pflag.Flag, value string) error {
		if slice, ok := f.Value.(pflag.SliceValue); ok && !seen[f.Name] {
			if err := slice.Replace(nil); err != nil {
				return fmt.Errorf("--%s: %w", f.Name, err)
			}
		}
		seen[f.Name] = true
		if err := s.fs.Set(f.Name, value); err != nil {
			return fmt.Errorf("--%s: %w", f.Name, err)
		}
		return nil
	})
}

// WarnInert logs each given flag that has no effect here.
func (s *Set) WarnInert(log *zap.Logger) {
	s.fs.Visit(func(f *pflag.Flag) {
		if why, ok := s.inert[f.Name]; ok {
			log.Info("option accepted, without effect", zap.String("option", "--"+f.Name), zap.String("why", why))
		}
	})
}

// List returns every effective option in the order of the names: the flags,
// then the keys of the configuration files.
func (s *Set) List() []Option {
	var out []Option
	files := s.fromFiles()
	s.fs.VisitAll(func(f *pflag.Flag) {
		if f.Name == versionFlag {
			return
		}
		o := Option{Name: "--" + f.Name, Value: f.Value.String(), Default: f.DefValue, Inert: s.inert[f.Name]}
		if file, ok := files[f.Name]; f.Changed {
			o.Origin.Kind = Flag
		} else if ok {
			o.Origin = file.Origin
			o.Value = cmp.Or(file.Value, o.Value)
		} else if variable, ok := s.env[f.Name]; ok {
			o.Origin = Origin{Kind: Environment, Source: variable}
		}
		if s.secret[f.Name] && o.Value != "" {
			o.Value = "(hidden)"
		}
		out = append(out, o)
	})
	for _, d := range s.docs {
		out = append(out, d.list(s)...)
	}
	sort.SliceStable(out, func(i, j int) bool { return out[i].Name < out[j].Name })
	return out
}
