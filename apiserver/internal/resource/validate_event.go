package resource

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// eventFacts are what both versions of events are checked by.
type eventFacts struct {
	namespace, about, controller, instance, action, reason, note string
	dated                                                        bool
}

// eventBasics checks an event; controller names the field of its reporter.
func (c *checks) eventBasics(e eventFacts, controller string) {
	const longestAction, longestNote = 128, 1024
	at := root("involvedObject", "namespace")
	const mismatch = "does not match event.namespace"
	if !e.dated {
		if e.about == "" && e.namespace != metav1.NamespaceNone && e.namespace != metav1.NamespaceDefault || e.about != "" && e.about != e.namespace {
			c.invalid(at, e.about, mismatch)
		}
		return
	}
	if e.about == "" && e.namespace != metav1.NamespaceDefault && e.namespace != metav1.NamespaceSystem {
		c.invalid(at, e.about, mismatch)
	}
	c.needed(root(controller), e.controller)
	c.qualified(root(controller), e.controller)
	bounded := func(name, value string, most int, required bool) {
		if value == "" && required {
			c.required(root(name), "")
		}
		if len(value) > most {
			c.invalid(root(name), "", fmt.Sprintf("can have at most %v characters", most))
		}
	}
	bounded("reportingInstance", e.instance, longestAction, true)
	bounded("action", e.action, longestAction, true)
	bounded("reason", e.reason, longestAction, true)
	bounded("message", e.note, longestNote, false)
}

func validateEvent(e *corev1.Event) field.ErrorList {
	c := &checks{}
	c.eventBasics(eventFacts{e.Namespace, e.InvolvedObject.Namespace, e.ReportingController, e.ReportingInstance, e.Action, e.Reason, e.Message, !e.EventTime.IsZero()}, "reportingComponent")
	return c.list
}

func factsOf(e *eventsv1.Event) eventFacts {
	return eventFacts{e.Namespace, e.Regarding.Namespace, e.ReportingController, e.ReportingInstance, e.Action, e.Reason, e.Note, !e.EventTime.IsZero()}
}

func validateEventV1(e *eventsv1.Event) field.ErrorList {
	c := &checks{}
	c.eventBasics(factsOf(e), "reportingController")
	c.eventSeries(e.Series)
	if e.EventTime.IsZero() {
		c.required(root("eventTime"), "")
	}
	if e.Type != corev1.EventTypeNormal && e.Type != corev1.EventTypeWarning {
		c.invalid(root("type"), "", fmt.Sprintf("has invalid value: %v", e.Type))
	}
	for name, set := range map[string]bool{
		"firstTimestamp": !e.DeprecatedFirstTimestamp.IsZero(), "lastTimestamp": !e.DeprecatedLastTimestamp.IsZero(),
		"count": e.DeprecatedCount != 0, "source": e.DeprecatedSource != corev1.EventSource{},
	} {
		if set {
			c.invalid(root(name), "", "needs to be unset")
		}
	}
	return c.list
}

func (c *checks) eventSeries(s *eventsv1.EventSeries) {
	if s == nil {
		return
	}
	if s.Count < 2 {
		c.invalid(root("series.count"), "", "should be at least 2")
	}
	if s.LastObservedTime.IsZero() {
		c.required(root("series.lastObservedTime"), "")
	}
}

func validateEventV1Update(e, old *eventsv1.Event) field.ErrorList {
	c := &checks{}
	c.eventBasics(factsOf(e), "reportingController")
	c.eventSeries(e.Series)
	for _, f := range []struct {
		name   string
		v, old any
	}{
		{"involvedObject", e.Regarding, old.Regarding},
		{"reason", e.Reason, old.Reason},
		{"message", e.Note, old.Note},
		{"source", e.DeprecatedSource, old.DeprecatedSource},
		{"count", e.DeprecatedCount, old.DeprecatedCount},
		{"type", e.Type, old.Type},
		{"action", e.Action, old.Action},
		{"related", e.Related, old.Related},
		{"reportingController", e.ReportingController, old.ReportingController},
		{"reportingInstance", e.ReportingInstance, old.ReportingInstance},
	} {
		c.same(root(f.name), f.v, f.old)
	}
	return c.list
}
