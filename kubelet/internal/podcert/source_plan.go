package podcert

import (
	"encoding/pem"
	"errors"
	"fmt"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
)

// Times of a source's life, as upstream's.
const (
	// abandonAfter is how long a request that is not seen is waited for, counted from when it was made: it may not have
	// reached the cache yet, or somebody has deleted it.
	abandonAfter = 10 * time.Minute
	// overdueAfter is how long after the begin of its refresh a certificate is overdue.
	overdueAfter = 10 * time.Minute
	// spread is how much refreshes and abandonments are spread by chance, so that many sources do not keep step.
	spread = 5 * time.Minute
)

// errPending is why a source has nothing to show yet.
var errPending = errors.New("credential bundle is not issued yet")

// state is what is known about one source. Its zero value is a source that nothing was asked for yet.
//
//	asked ──► issued ⇄ issued and asked anew
//	  │                        │
//	  └──► denied or failed ◄──┘
type state struct {
	// What the volume shows, nil before the first certificate.
	key, chain           []byte
	refreshAt, expiresAt time.Time
	toldOverdue, toldEnd bool

	// The request under way: its name, "" for none, and its key. It is given up at abandonAt where it is not seen.
	request    string
	requestKey []byte
	abandonAt  time.Time

	// ended is the condition that ended the source, Denied or Failed, "" for none.
	ended, reason, message string
}

// event is what a pod's owner is told.
type event struct{ reason, message string }

// todo is what a source needs.
type todo struct {
	ask    bool // a new request
	events []event
	issued bool      // what the volume shows has changed
	due    time.Time // when to look again where nothing happens before, zero for never
}

// asked is the state once the request was made.
func (s state) asked(name string, key []byte, abandonAt time.Time) state {
	s.request, s.requestKey, s.abandonAt = name, key, abandonAt
	return s
}

// credentials is what the volume shows.
func (s state) credentials() (key, chain []byte, err error) {
	switch {
	case s.ended != "":
		how := map[string]string{certificatesv1.PodCertificateRequestConditionTypeDenied: "denied", certificatesv1.PodCertificateRequestConditionTypeFailed: "failed"}[s.ended]
		return nil, nil, fmt.Errorf("PodCertificateRequest was permanently %s: reason=%q message=%q", how, s.reason, s.message)
	case s.chain == nil:
		return nil, nil, errPending
	}
	return s.key, s.chain, nil
}

// label is the state in upstream's metric.
func (s state) label(now time.Time) string {
	switch {
	case s.ended == certificatesv1.PodCertificateRequestConditionTypeDenied:
		return "denied"
	case s.ended != "":
		return "failed"
	case s.chain == nil:
		return "not_yet_issued"
	case now.After(s.expiresAt):
		return "expired"
	case now.After(s.refreshAt.Add(overdueAfter)):
		return "overdue_for_refresh"
	}
	return "fresh"
}

// plan decides what a source needs next. req is the request under way as the API server shows it, nil where it shows none;
// jitter spreads the next refresh. An error keeps the state as it is.
func plan(s state, req *certificatesv1.PodCertificateRequest, now time.Time, jitter time.Duration) (state, todo, error) {
	if s.ended != "" {
		return s, todo{}, nil // for ever, as long as the pod lives
	}
	var do todo
	if s.request != "" {
		switch {
		case req != nil:
			if next, do, over, err := conclude(s, req, jitter); over || err != nil {
				return next, do, err
			}
		case now.After(s.abandonAt):
			s.request, s.requestKey = "", nil
		}
	}
	if s.chain != nil {
		s, do = s.complain(now)
	}
	switch {
	case s.request != "" && req == nil:
		do.due = sooner(do.due, s.abandonAt.Add(time.Second))
	case s.request != "":
		// The request's next change wakes the source.
	case s.chain != nil && now.Before(s.refreshAt):
		do.due = sooner(do.due, s.refreshAt)
	default:
		do.ask = true
	}
	return s, do, nil
}

// conclude takes in how the request ended; over says whether it has.
func conclude(s state, req *certificatesv1.PodCertificateRequest, jitter time.Duration) (next state, do todo, over bool, err error) {
	name := req.Namespace + "/" + req.Name
	for _, c := range req.Status.Conditions {
		var how string
		switch c.Type {
		case certificatesv1.PodCertificateRequestConditionTypeIssued:
			st := &req.Status
			if st.BeginRefreshAt == nil || st.NotAfter == nil {
				return s, todo{}, false, fmt.Errorf("PodCertificateRequest %s is issued without its times", name)
			}
			at := st.BeginRefreshAt.Add(jitter)
			return state{key: s.requestKey, chain: cleanChain(st.CertificateChain), refreshAt: at, expiresAt: st.NotAfter.Time}, todo{issued: true, due: at}, true, nil
		case certificatesv1.PodCertificateRequestConditionTypeDenied:
			how = "was denied"
		case certificatesv1.PodCertificateRequestConditionTypeFailed:
			how = "failed"
		default:
			continue
		}
		return state{ended: c.Type, reason: c.Reason, message: c.Message}, todo{events: []event{
			{c.Type, fmt.Sprintf("PodCertificateRequest %s %s, reason=%q, message=%q", name, how, c.Reason, c.Message)},
		}}, true, nil
	}
	return s, todo{}, false, nil
}

// complain tells once that a certificate is overdue, and once that it has expired.
func (s state) complain(now time.Time) (state, todo) {
	var do todo
	for _, x := range []struct {
		told *bool
		at   time.Time
		what event
	}{
		{&s.toldOverdue, s.refreshAt.Add(overdueAfter), event{"CertificateOverdueForRefresh", "PodCertificate refresh overdue"}},
		{&s.toldEnd, s.expiresAt, event{"CertificateExpired", "PodCertificate expired"}},
	} {
		switch {
		case *x.told:
		case now.After(x.at):
			*x.told = true
			do.events = append(do.events, x.what)
		default:
			do.due = sooner(do.due, x.at.Add(time.Second))
		}
	}
	return s, do
}

// sooner is the earlier time, of which zero is never.
func sooner(a, b time.Time) time.Time {
	if a.IsZero() || b.Before(a) {
		return b
	}
	return a
}

// cleanChain is the certificates of the chain and nothing else: signers may write text between them.
func cleanChain(chain string) []byte {
	out := []byte{}
	for rest := []byte(chain); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return out
		}
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: block.Bytes})...)
	}
}

// sources lists the podCertificate sources of a pod.
func sources(pod *corev1.Pod) map[Key]*corev1.PodCertificateProjection {
	out := map[Key]*corev1.PodCertificateProjection{}
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		if v.Projected == nil {
			continue
		}
		for j := range v.Projected.Sources {
			if p := v.Projected.Sources[j].PodCertificate; p != nil {
				out[Key{pod.UID, v.Name, j}] = p
			}
		}
	}
	return out
}
