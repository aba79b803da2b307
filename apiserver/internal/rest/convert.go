package rest

import (
	"fmt"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// convert turns an object into another served version of its kind. There is no
// hub type: the few kinds with several versions convert directly.
func (a *API) convert(obj runtime.Object, to schema.GroupVersionKind) (runtime.Object, error) {
	var out runtime.Object
	switch from := obj.(type) {
	case *corev1.Event:
		out = eventToV1(from)
	case *eventsv1.Event:
		out = eventToCore(from)
	case *autoscalingv1.HorizontalPodAutoscaler:
		v2, err := autoscalerToV2(from)
		if err != nil {
			return nil, err
		}
		out = v2
	case *autoscalingv2.HorizontalPodAutoscaler:
		v1, err := autoscalerToV1(from)
		if err != nil {
			return nil, err
		}
		out = v1
	default:
		return nil, fmt.Errorf("convert %T to %s: no conversion is known", obj, to)
	}
	out.GetObjectKind().SetGroupVersionKind(to)
	return out, nil
}

func eventToV1(e *corev1.Event) *eventsv1.Event {
	out := &eventsv1.Event{
		ObjectMeta: e.ObjectMeta, EventTime: e.EventTime, ReportingController: e.ReportingController,
		ReportingInstance: e.ReportingInstance, Action: e.Action, Reason: e.Reason, Regarding: e.InvolvedObject,
		Related: e.Related, Note: e.Message, Type: e.Type, DeprecatedSource: e.Source,
		DeprecatedFirstTimestamp: e.FirstTimestamp, DeprecatedLastTimestamp: e.LastTimestamp, DeprecatedCount: e.Count,
	}
	if e.Series != nil {
		out.Series = &eventsv1.EventSeries{Count: e.Series.Count, LastObservedTime: e.Series.LastObservedTime}
	}
	return out
}

func eventToCore(e *eventsv1.Event) *corev1.Event {
	out := &corev1.Event{
		ObjectMeta: e.ObjectMeta, EventTime: e.EventTime, ReportingController: e.ReportingController,
		ReportingInstance: e.ReportingInstance, Action: e.Action, Reason: e.Reason, InvolvedObject: e.Regarding,
		Related: e.Related, Message: e.Note, Type: e.Type, Source: e.DeprecatedSource,
		FirstTimestamp: e.DeprecatedFirstTimestamp, LastTimestamp: e.DeprecatedLastTimestamp, Count: e.DeprecatedCount,
	}
	if e.Series != nil {
		out.Series = &corev1.EventSeries{Count: e.Series.Count, LastObservedTime: e.Series.LastObservedTime}
	}
	return out
}
