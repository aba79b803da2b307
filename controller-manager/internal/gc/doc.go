// Package gc deletes objects whose owners are gone, in the three ways of a deletion: in the background, in the foreground
// (dependents first), or orphaning (the references go, the dependents stay).
//
// Data in: the metadata of every deletable kind, watched without its content; only what references and finalizers need
// is kept, in the graph and nowhere else. Data out: deletions and patches with UIDs as preconditions. graph_plan.go is the
// pure graph; gc.go acts; watch.go owns a watch per kind, started and stopped as discovery changes.
package gc
