package podcert

import (
	"crypto/x509"
	"encoding/pem"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	certificatesv1 "k8s.io/api/certificates/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

func request(conditions ...string) *certificatesv1.PodCertificateRequest {
	r := &certificatesv1.PodCertificateRequest{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "req-1"}}
	for _, c := range conditions {
		r.Status.Conditions = append(r.Status.Conditions, metav1.Condition{Type: c, Status: metav1.ConditionTrue, Reason: "Because", Message: "of it"})
	}
	if len(conditions) > 0 && conditions[0] == "Issued" {
		begin, end := metav1.NewTime(noon.Add(8*time.Hour)), metav1.NewTime(noon.Add(12*time.Hour))
		r.Status.BeginRefreshAt, r.Status.NotAfter, r.Status.CertificateChain = &begin, &end, "text\n"+block+"text\n"+block
	}
	return r
}

var block = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("der")}))

func TestPlan(t *testing.T) {
	const jitter = 3 * time.Minute
	asked := state{}.asked("req-1", []byte("key"), noon.Add(abandonAfter))
	fresh := state{key: []byte("key"), chain: []byte(block + block), refreshAt: noon.Add(8*time.Hour + jitter), expiresAt: noon.Add(12 * time.Hour)}
	anew := fresh.asked("req-1", []byte("key 2"), noon.Add(8*time.Hour+jitter+abandonAfter))
	told := func(s state, overdue, end bool) state { s.toldOverdue, s.toldEnd = overdue, end; return s }
	overdueAt := fresh.refreshAt.Add(overdueAfter)
	denied := state{ended: "Denied", reason: "Because", message: "of it"}
	for name, tc := range map[string]struct {
		in   state
		req  *certificatesv1.PodCertificateRequest
		now  time.Time
		want state
		todo todo
		err  string
	}{
		"new":               {state{}, nil, noon, state{}, todo{ask: true}, ""},
		"asked, unseen yet": {asked, nil, noon, asked, todo{due: noon.Add(abandonAfter + time.Second)}, ""},
		"asked, seen":       {asked, request(), noon.Add(time.Hour), asked, todo{}, ""},
		"given up":          {asked, nil, noon.Add(abandonAfter + time.Second), state{abandonAt: noon.Add(abandonAfter)}, todo{ask: true}, ""},
		"issued":            {asked, request("Issued"), noon, fresh, todo{issued: true, due: fresh.refreshAt}, ""},
		"issued without its times": {
			asked, &certificatesv1.PodCertificateRequest{Status: certificatesv1.PodCertificateRequestStatus{Conditions: request("Issued").Status.Conditions}}, noon, asked,
			todo{},
			"PodCertificateRequest / is issued without its times",
		},
		"denied": {asked, request("Denied"), noon, denied, todo{events: []event{{"Denied", `PodCertificateRequest ns/req-1 was denied, reason="Because", message="of it"`}}}, ""},
		"failed": {
			asked, request("Failed"), noon,
			state{ended: "Failed", reason: "Because", message: "of it"},
			todo{events: []event{{"Failed", `PodCertificateRequest ns/req-1 failed, reason="Because", message="of it"`}}},
			"",
		},
		"denied for ever":      {denied, nil, noon.Add(1000 * time.Hour), denied, todo{}, ""},
		"fresh":                {fresh, nil, noon, fresh, todo{due: fresh.refreshAt}, ""},
		"refresh":              {fresh, nil, fresh.refreshAt, fresh, todo{ask: true, due: overdueAt.Add(time.Second)}, ""},
		"refresh asked":        {anew, request(), fresh.refreshAt, anew, todo{due: overdueAt.Add(time.Second)}, ""},
		"refresh overdue":      {anew, request(), overdueAt.Add(time.Second), told(anew, true, false), todo{due: fresh.expiresAt.Add(time.Second), events: []event{{"CertificateOverdueForRefresh", "PodCertificate refresh overdue"}}}, ""},
		"told once":            {told(anew, true, false), request(), overdueAt.Add(time.Hour), told(anew, true, false), todo{due: fresh.expiresAt.Add(time.Second)}, ""},
		"expired":              {told(anew, true, false), request(), fresh.expiresAt.Add(time.Second), told(anew, true, true), todo{events: []event{{"CertificateExpired", "PodCertificate expired"}}}, ""},
		"expired and unasked":  {told(fresh, true, true), nil, fresh.expiresAt.Add(time.Hour), told(fresh, true, true), todo{ask: true}, ""},
		"refreshed":            {told(anew, true, true), request("Issued"), noon.Add(9 * time.Hour), state{key: []byte("key 2"), chain: fresh.chain, refreshAt: fresh.refreshAt, expiresAt: fresh.expiresAt}, todo{issued: true, due: fresh.refreshAt}, ""},
		"refresh denied":       {anew, request("Denied"), fresh.refreshAt, denied, todo{events: []event{{"Denied", `PodCertificateRequest ns/req-1 was denied, reason="Because", message="of it"`}}}, ""},
		"some other condition": {asked, request("Considered"), noon, asked, todo{}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			got, do, err := plan(tc.in, tc.req, tc.now, jitter)
			text := ""
			if err != nil {
				text = err.Error()
			}
			if text != tc.err {
				t.Errorf("error %q, want %q", text, tc.err)
			}
			if d := cmp.Diff(tc.want, got, cmp.AllowUnexported(state{})); d != "" {
				t.Errorf("state (-want +got):\n%s", d)
			}
			if d := cmp.Diff(tc.todo, do, cmp.AllowUnexported(todo{}, event{})); d != "" {
				t.Errorf("to do (-want +got):\n%s", d)
			}
		})
	}
	for label, s := range map[string]state{
		"not_yet_issued": asked, "denied": denied, "failed": {ended: "Failed"}, "fresh": {chain: []byte("x"), refreshAt: noon, expiresAt: noon.Add(time.Hour)},
		"overdue_for_refresh": {chain: []byte("x"), refreshAt: noon.Add(-time.Hour), expiresAt: noon.Add(time.Hour)}, "expired": {chain: []byte("x"), expiresAt: noon.Add(-time.Hour)},
	} {
		if got := s.label(noon); got != label {
			t.Errorf("label %s, want %s", got, label)
		}
	}
}

func TestNewKey(t *testing.T) {
	for _, kind := range []string{"RSA3072", "RSA4096", "ECDSAP256", "ECDSAP384", "ECDSAP521", "ED25519"} {
		t.Run(kind, func(t *testing.T) {
			if strings.HasPrefix(kind, "RSA") && testing.Short() {
				t.Skip("slow")
			}
			text, stub, err := newKey(kind)
			if err != nil {
				t.Fatal(err)
			}
			req, err := x509.ParseCertificateRequest(stub)
			if err != nil {
				t.Fatal(err)
			}
			if err := req.CheckSignature(); err != nil {
				t.Error(err)
			}
			if n := len(req.Subject.Names) + len(req.Extensions); n > 0 {
				t.Errorf("the request says %d things besides its key", n)
			}
			if !matches(t, text, req.PublicKey) {
				t.Error("the request is for another key")
			}
		})
	}
	if _, _, err := newKey("DSA"); err == nil || err.Error() != `generate key: unknown key type "DSA"` {
		t.Errorf("error %v", err)
	}
}
