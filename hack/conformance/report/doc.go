// Package report makes a table of what ginkgo says of upstream's conformance tests.
//
// Data in: ginkgo's reports of one or more runs of the suite. Data out: counts per special interest group and the
// failures with the first line of their errors, as text or as the page in docs/. It is pure and owns no goroutine.
package report
