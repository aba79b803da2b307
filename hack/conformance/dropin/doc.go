// Command dropin makes docs/drop-in.md of the runs of hack/swap.sh.
//
// Data in: -runs, with a folder per run, DIRECTION-COMPONENT, that has ginkgo's JSON and the file "run" of what the script knows, as KEY: VALUE lines; -lists, the
// tests that belong to each component. Data out: the page. A combination without a run stands in the table as not run. It owns no goroutine.
package main
