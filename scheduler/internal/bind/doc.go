// Package bind does to the API what the engine has decided: bindings, conditions, volumes, evictions.
//
// Data in: one decision per call. Data out: API requests, and their error. Calls block, and are made from the engine's
// binding goroutines; the package owns none.
package bind
