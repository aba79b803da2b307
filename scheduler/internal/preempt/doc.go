// Package preempt decides which pods have to go so that one of a higher priority can run.
//
// Data in: the snapshot, the profile and the decision that found no node, disruption budgets. Data out: a node and its
// victims, or a sentence that says why there are none. It is pure; the pods that it takes off the snapshot to see what
// would be are put back before it returns.
package preempt
