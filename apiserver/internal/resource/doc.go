// Package resource is the ordered table of the built-in kinds: where each is
// stored, and its strategy (defaults, preparation, validation, selectable
// fields, table columns).
//
// Data in: versioned API objects. Data out: the same objects defaulted and
// prepared, field errors, table rows. Everything in it is pure: no I/O, no
// clock, no goroutine.
package resource
