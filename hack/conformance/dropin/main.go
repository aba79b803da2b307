package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/onsi/ginkgo/v2/types"

	"flagship/hack/conformance/list"
	"flagship/hack/conformance/report"
)

func main() {
	runs := flag.String("runs", "bin/swap", "folder of the runs")
	lists := flag.String("lists", "hack/swap", "folder of the components' lists of tests")
	out := flag.String("out", "docs/drop-in.md", "page to write")
	one := flag.String("show", "", "print the result of this run, DIRECTION-COMPONENT, and write nothing")
	flag.Parse()
	if err := write(*runs, *lists, *out, *one); err != nil {
		fmt.Fprintln(os.Stderr, "dropin:", err)
		os.Exit(1)
	}
}

func write(runs, lists, out, one string) error {
	var all []result
	for _, d := range directions() {
		for _, c := range components() {
			r := result{Direction: d.name, Component: c}
			if one != "" && one != r.folder() {
				continue
			}
			if err := r.load(filepath.Join(runs, r.folder()), filepath.Join(lists, c+".txt")); err != nil {
				return fmt.Errorf("%s: %w", r.folder(), err)
			}
			all = append(all, r)
		}
	}
	if one == "" {
		return os.WriteFile(out, []byte(page(all)), 0o644)
	}
	for _, r := range all {
		fmt.Print(r.text())
	}
	return nil
}

// load reads a run. One that is not there is no error.
func (r *result) load(folder, tests string) error {
	text, err := os.ReadFile(filepath.Join(folder, "run"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	r.parse(string(text))
	names, err := list.Read(tests)
	if err != nil {
		return err
	}
	r.Listed = len(names)
	var reports []types.Report
	for _, part := range []string{"parallel", "serial"} {
		data, err := os.ReadFile(filepath.Join(folder, part+".json"))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return err
		}
		var some []types.Report
		if err := json.Unmarshal(data, &some); err != nil {
			return fmt.Errorf("read %s.json: %w", part, err)
		}
		reports = append(reports, some...)
	}
	found, missing := list.Pick(names, report.Summarize(reports))
	r.Tests = found
	switch {
	case r.Error != "" || len(missing) == 0:
	case len(reports) == 0:
		r.Error = "the tests did not end"
	default:
		r.Error = report.FirstLine("not in the suite's report: " + strings.Join(missing, ", "))
	}
	return nil
}
