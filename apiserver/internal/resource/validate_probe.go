package resource

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func (v *podScope) probes(x *corev1.Container, p *field.Path) {
	v.probe(x.LivenessProbe, p.Child("livenessProbe"), true)
	if r := x.ReadinessProbe; r != nil {
		at := p.Child("readinessProbe")
		v.probe(r, at, false)
		if r.TerminationGracePeriodSeconds != nil {
			v.invalid(at.Child("terminationGracePeriodSeconds"), r.TerminationGracePeriodSeconds, "must not be set for readinessProbes")
		}
	}
	v.probe(x.StartupProbe, p.Child("startupProbe"), true)
}

// probe checks a probe; liveness and startup probes succeed at once.
func (v *podScope) probe(b *corev1.Probe, p *field.Path, once bool) {
	if b == nil {
		return
	}
	v.handler(handler{b.Exec, b.HTTPGet, b.TCPSocket, b.GRPC, nil}, p)
	for _, f := range []struct {
		name  string
		value int32
	}{
		{"initialDelaySeconds", b.InitialDelaySeconds},
		{"timeoutSeconds", b.TimeoutSeconds},
		{"periodSeconds", b.PeriodSeconds},
		{"successThreshold", b.SuccessThreshold},
		{"failureThreshold", b.FailureThreshold},
	} {
		v.nonNegative(p.Child(f.name), int64(f.value))
	}
	if s := b.TerminationGracePeriodSeconds; s != nil && *s <= 0 {
		v.invalid(p.Child("terminationGracePeriodSeconds"), *s, "must be greater than 0")
	}
	if once && b.SuccessThreshold != 1 {
		v.invalid(p.Child("successThreshold"), b.SuccessThreshold, "must be 1")
	}
}

// handler is what a probe or a lifecycle hook does.
type handler struct {
	exec  *corev1.ExecAction
	http  *corev1.HTTPGetAction
	tcp   *corev1.TCPSocketAction
	grpc  *corev1.GRPCAction
	sleep *corev1.SleepAction
}

func (v *podScope) handler(h handler, p *field.Path) {
	n := 0
	for _, a := range []struct {
		name  string
		set   bool
		check func(*field.Path)
	}{
		{"exec", h.exec != nil, func(p *field.Path) {
			if len(h.exec.Command) == 0 {
				v.required(p.Child("command"), "")
			}
		}},
		{"httpGet", h.http != nil, func(p *field.Path) { v.httpGet(h.http, p) }},
		{"tcpSocket", h.tcp != nil, func(p *field.Path) { v.portOrName(p.Child("port"), h.tcp.Port) }},
		{"grpc", h.grpc != nil, func(p *field.Path) { v.portOrName(p.Child("port"), intstr.FromInt32(h.grpc.Port)) }},
		{"sleep", h.sleep != nil, func(p *field.Path) {
			if v.grace != nil && (h.sleep.Seconds < 0 || h.sleep.Seconds > *v.grace) {
				v.invalid(p, h.sleep.Seconds, fmt.Sprintf("must be non-negative and less than terminationGracePeriodSeconds (%d)", *v.grace))
			}
		}},
	} {
		switch {
		case !a.set:
		case n > 0:
			v.forbidden(p.Child(a.name), onlyOneHandler)
		default:
			n++
			a.check(p.Child(a.name))
		}
	}
	if n == 0 {
		v.required(p, "must specify a handler type")
	}
}

func (v *podScope) httpGet(h *corev1.HTTPGetAction, p *field.Path) {
	v.needed(p.Child("path"), h.Path)
	v.portOrName(p.Child("port"), h.Port)
	oneOf(v.checks, p.Child("scheme"), h.Scheme, corev1.URISchemeHTTP, corev1.URISchemeHTTPS)
	for _, header := range h.HTTPHeaders {
		v.invalid(p.Child("httpHeaders"), header.Name, validation.IsHTTPHeaderName(header.Name)...)
	}
}

func (v *podScope) lifecycle(l *corev1.Lifecycle, p *field.Path) {
	if l == nil {
		return
	}
	for name, h := range map[string]*corev1.LifecycleHandler{"postStart": l.PostStart, "preStop": l.PreStop} {
		if h != nil {
			v.handler(handler{h.Exec, h.HTTPGet, h.TCPSocket, nil, h.Sleep}, p.Child(name))
		}
	}
	if l.StopSignal == nil {
		return
	}
	at := p.Child("stopSignal")
	valid := sets.New[corev1.Signal]()
	switch {
	case v.spec.OS == nil:
		v.forbidden(at, "may not be set for containers with empty `spec.os.name`")
		return
	case v.spec.OS.Name == corev1.Windows:
		valid.Insert(corev1.SIGKILL, corev1.SIGTERM)
	case v.spec.OS.Name == corev1.Linux:
		valid = linuxSignals()
	default:
		return
	}
	if !valid.Has(*l.StopSignal) {
		v.list = append(v.list, field.NotSupported(at, l.StopSignal, sets.List(valid)))
	}
}

// linuxSignals are the names of signal(7) and the real-time signals.
func linuxSignals() sets.Set[corev1.Signal] {
	out := sets.New[corev1.Signal]("SIGABRT", "SIGALRM", "SIGBUS", "SIGCHLD", "SIGCLD", "SIGCONT", "SIGFPE", "SIGHUP", "SIGILL", "SIGINT", "SIGIO", "SIGIOT",
		"SIGKILL", "SIGPIPE", "SIGPOLL", "SIGPROF", "SIGPWR", "SIGQUIT", "SIGSEGV", "SIGSTKFLT", "SIGSTOP", "SIGSYS", "SIGTERM", "SIGTRAP",
		"SIGTSTP", "SIGTTIN", "SIGTTOU", "SIGURG", "SIGUSR1", "SIGUSR2", "SIGVTALRM", "SIGWINCH", "SIGXCPU", "SIGXFSZ", "SIGRTMIN", "SIGRTMAX")
	for i := 1; i <= 15; i++ {
		out.Insert(corev1.Signal(fmt.Sprintf("SIGRTMIN+%d", i)))
		if i < 15 {
			out.Insert(corev1.Signal(fmt.Sprintf("SIGRTMAX-%d", i)))
		}
	}
	return out
}
