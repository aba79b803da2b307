package kube

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/gentype"
	"k8s.io/client-go/tools/record"
)

// Recorder returns an event recorder that correlates and rate-limits events as
// client-go does. It sends until ctx ends; its queue is bounded and drops
// events rather than block. The client's scheme must hold core/v1.
func Recorder(ctx context.Context, c *Client, component, host string) record.EventRecorder {
	b := record.NewBroadcaster(record.WithContext(ctx))
	b.StartRecordingToSink(&eventSink{c: c})
	return b.NewRecorder(c.Scheme(), corev1.EventSource{Component: component, Host: host})
}

type eventSink struct{ c *Client }

func (s *eventSink) in(namespace string) *gentype.ClientWithList[*corev1.Event, *corev1.EventList] {
	return For[corev1.Event, corev1.EventList](s.c, corev1.SchemeGroupVersion.WithResource("events"), namespace)
}

func (s *eventSink) Create(e *corev1.Event) (*corev1.Event, error) {
	return s.in(e.Namespace).Create(context.Background(), e, metav1.CreateOptions{})
}

func (s *eventSink) Update(e *corev1.Event) (*corev1.Event, error) {
	return s.in(e.Namespace).Update(context.Background(), e, metav1.UpdateOptions{})
}

func (s *eventSink) Patch(e *corev1.Event, data []byte) (*corev1.Event, error) {
	return s.in(e.Namespace).Patch(context.Background(), e.Name, types.StrategicMergePatchType, data, metav1.PatchOptions{})
}
