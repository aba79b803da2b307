package podstate

import (
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// State is a container's state in the runtime.
type State string

// The states that the runtime reports.
const (
	Created State = "created"
	Running State = "running"
	Exited  State = "exited"
	Unknown State = "unknown"
)

// Resources are the limits a running container really has; nil fields are unknown.
type Resources struct {
	CPUShares, CPUQuota, CPUPeriod, MemoryLimit int64
}

// Container is one container instance. Times are zero when the event has not happened.
type Container struct {
	ID, Name, SandboxID      string
	Image, ImageRef, LogPath string
	Hash                     uint64
	RestartCount             int
	State                    State
	CreatedAt, StartedAt     time.Time
	FinishedAt               time.Time
	ExitCode                 int32
	Reason, Message          string
	TerminationMessagePath   string
	TerminationMessagePolicy string
	TerminationGraceSeconds  *int64
	PreStop                  string // JSON of the hook, as annotated at creation
	Resources                *Resources
	UID, GID                 *int64
	SupplementalGroups       []int64
	StopSignal               string
}

// Sandbox is one pod sandbox instance.
type Sandbox struct {
	ID          string
	Attempt     uint32
	Ready       bool
	CreatedAt   time.Time
	HostNetwork bool
	IPs         []string
}

// Pod is the runtime's view of one pod.
type Pod struct {
	UID             types.UID
	Name, Namespace string
	Sandboxes       []Sandbox   // newest first
	Containers      []Container // newest first
	IPs             []string    // of the newest ready sandbox
}

// Latest returns the newest instance of the named container, or nil.
func (p *Pod) Latest(name string) *Container {
	for i := range p.Containers {
		if p.Containers[i].Name == name {
			return &p.Containers[i]
		}
	}
	return nil
}

// LatestExited returns the newest instance of the named container that has ended, or nil.
func (p *Pod) LatestExited(name string) *Container {
	for i := range p.Containers {
		if p.Containers[i].Name == name && p.Containers[i].State == Exited {
			return &p.Containers[i]
		}
	}
	return nil
}

// ReadySandbox returns the newest sandbox if it is ready, or nil.
func (p *Pod) ReadySandbox() *Sandbox {
	if len(p.Sandboxes) > 0 && p.Sandboxes[0].Ready {
		return &p.Sandboxes[0]
	}
	return nil
}

// LatestActive returns the newest instance of the named container in the newest ready sandbox, or nil.
func (p *Pod) LatestActive(name string) *Container {
	sb := p.ReadySandbox()
	if sb == nil {
		return nil
	}
	for i := range p.Containers {
		if p.Containers[i].Name == name && p.Containers[i].SandboxID == sb.ID {
			return &p.Containers[i]
		}
	}
	return nil
}

// AnyRunning reports whether a container is running, or may be.
func (p *Pod) AnyRunning() bool {
	for i := range p.Containers {
		if s := p.Containers[i].State; s == Running || s == Unknown {
			return true
		}
	}
	return false
}
