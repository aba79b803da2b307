// Package source finds out which pods the node should run: from the API server, a folder of manifests, or a URL.
//
// Data in: files, HTTP answers, watch events. Data out: the full set of each source, merged by Mux into adds, changes
// and removals. Each Run owns its goroutine; nothing outlives it.
package source
