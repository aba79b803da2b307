package app

import (
	"sync"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/record"

	"flagship/controller-manager/internal/config"
)

type recorder = record.EventRecorder

// lazyRecorder makes a recorder, with its queue and goroutines, when the first event is recorded: most controllers never
// record one.
type lazyRecorder struct {
	make func() recorder
	once sync.Once
	r    recorder
}

func (l *lazyRecorder) get() recorder {
	l.once.Do(func() { l.r = l.make() })
	return l.r
}

// Event implements record.EventRecorder.
func (l *lazyRecorder) Event(obj runtime.Object, eventType, reason, message string) {
	l.get().Event(obj, eventType, reason, message)
}

// Eventf implements record.EventRecorder.
func (l *lazyRecorder) Eventf(obj runtime.Object, eventType, reason, format string, args ...any) {
	l.get().Eventf(obj, eventType, reason, format, args...)
}

// AnnotatedEventf implements record.EventRecorder.
func (l *lazyRecorder) AnnotatedEventf(obj runtime.Object, annotations map[string]string, eventType, reason, format string, args ...any) {
	l.get().AnnotatedEventf(obj, annotations, eventType, reason, format, args...)
}

// eventSource is the component that upstream's events of a controller name.
func eventSource(c config.Controller) string {
	switch c.Name {
	case "daemonset-controller", "deployment-controller", "replicaset-controller", "statefulset-controller", "job-controller", "cronjob-controller",
		"taint-eviction-controller", "endpointslice-controller", "ttl-after-finished-controller":
		return c.Name
	case "replicationcontroller-controller":
		return "replication-controller"
	case "disruption-controller":
		return "controllermanager"
	case "node-lifecycle-controller":
		return "node-controller"
	case "node-ipam-controller":
		return "cidrAllocator"
	case "horizontal-pod-autoscaler-controller":
		return "horizontal-pod-autoscaler"
	case "persistentvolume-binder-controller":
		return "persistentvolume-controller"
	}
	if c.Account != "" {
		return c.Account
	}
	return c.Name
}
