package snapshot

// Kind is what changed.
type Kind string

// The kinds of change that may make a pod schedulable. The names are upstream's event resource names.
const (
	KindNode          Kind = "Node"
	KindAssignedPod   Kind = "AssignedPod"
	KindPending       Kind = "UnscheduledPod"
	KindPVC           Kind = "PersistentVolumeClaim"
	KindPV            Kind = "PersistentVolume"
	KindStorageClass  Kind = "StorageClass"
	KindCSINode       Kind = "CSINode"
	KindCSICapacity   Kind = "CSIStorageCapacity"
	KindCSIDriver     Kind = "CSIDriver"
	KindNamespace     Kind = "Namespace"
	KindForceActivate Kind = "ForceActivate"
)

// Action is how it changed.
type Action string

// The actions.
const (
	Add    Action = "Add"
	Update Action = "Update"
	Delete Action = "Delete"
)

// NodeChange says which aspects of a node became different, for hints.
type NodeChange struct {
	Allocatable, Labels, Taints, Unschedulable, Condition, Features bool
}

// Event is one change of the cluster, as hints see it.
type Event struct {
	Kind   Kind
	Action Action
	// Pod is set for KindAssignedPod and KindPending; OldPod too, on update.
	Pod, OldPod *Pod
	// Node is the ordinal of the node for KindNode, -1 else; Change tells what an update changed.
	Node   int
	Change NodeChange
	// ObjectNamespace and ObjectName name other kinds' objects.
	ObjectNamespace, ObjectName string
}

// Label is the event's name in metrics and logs, like NodeAdd.
func (e Event) Label() string { return string(e.Kind) + string(e.Action) }
