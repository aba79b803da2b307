package source

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/cache"

	"flagship/kubelet/internal/podspec"
)

// Observer takes the pods that the API server shows, as they change.
type Observer interface {
	// Mirror tells about a mirror pod; gone says that it was deleted.
	Mirror(pod *corev1.Pod, gone bool)
	// Observe tells about a pod that is no mirror, when no more than its status has changed too.
	Observe(pod *corev1.Pod)
}

// API reads the node's pods from the API server.
type API struct {
	informer cache.SharedIndexInformer
	mux      *Mux
	observer Observer
}

// NewAPI returns the API source; the informer must select the pods of this node.
func NewAPI(informer cache.SharedIndexInformer, mux *Mux, observer Observer) *API {
	return &API{informer: informer, mux: mux, observer: observer}
}

// Run follows the pods until ctx ends.
func (a *API) Run(ctx context.Context) error {
	set := func(obj any) {
		if pod, ok := obj.(*corev1.Pod); ok {
			if podspec.IsMirror(pod) {
				a.observer.Mirror(pod, false)
			} else {
				a.mux.Set(ctx, podspec.SourceAPI, pod)
				a.observer.Observe(pod)
			}
		}
	}
	reg, err := a.informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    set,
		UpdateFunc: func(_, obj any) { set(obj) },
		DeleteFunc: func(obj any) {
			if tomb, ok := obj.(cache.DeletedFinalStateUnknown); ok {
				obj = tomb.Obj
			}
			pod, ok := obj.(*corev1.Pod)
			switch {
			case !ok:
			case podspec.IsMirror(pod):
				a.observer.Mirror(pod, true)
			default:
				a.mux.Drop(podspec.SourceAPI, pod.UID)
			}
		},
	})
	if err != nil {
		return fmt.Errorf("watch pods: %w", err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		a.informer.RunWithContext(ctx)
	}()
	if cache.WaitForCacheSync(ctx.Done(), reg.HasSynced) {
		var pods []*corev1.Pod
		for _, obj := range a.informer.GetStore().List() {
			if pod, ok := obj.(*corev1.Pod); ok && !podspec.IsMirror(pod) {
				pods = append(pods, pod)
			}
		}
		a.mux.Replace(ctx, podspec.SourceAPI, pods)
	}
	<-done
	return nil
}
