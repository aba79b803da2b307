package podcert

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
)

// matches says whether the PEM key is the private half of pub.
func matches(t *testing.T, key []byte, pub crypto.PublicKey) bool {
	t.Helper()
	b, _ := pem.Decode(key)
	if b == nil || b.Type != "PRIVATE KEY" {
		t.Fatalf("not a key: %q", key)
	}
	k, err := x509.ParsePKCS8PrivateKey(b.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	own := k.(crypto.Signer).Public().(interface{ Equal(crypto.PublicKey) bool })
	return own.Equal(pub)
}

// server is an API server and a signer.
type server struct {
	t *testing.T

	mu     sync.Mutex
	items  map[string]*certificatesv1.PodCertificateRequest
	made   []certificatesv1.PodCertificateRequest // all that were ever made
	lists  int
	watch  *watch.RaceFreeFakeWatcher
	refuse error
}

func newServer(t *testing.T) *server {
	return &server{t: t, items: map[string]*certificatesv1.PodCertificateRequest{}, watch: watch.NewRaceFreeFake()}
}

func (s *server) Create(_ context.Context, req *certificatesv1.PodCertificateRequest) (*certificatesv1.PodCertificateRequest, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refuse != nil {
		return nil, s.refuse
	}
	r := req.DeepCopy()
	r.Name, r.CreationTimestamp = fmt.Sprintf("%s%d", r.GenerateName, len(s.made)+1), metav1.Now()
	s.made = append(s.made, *r)
	s.items[r.Name] = r
	s.watch.Add(r)
	return r.DeepCopy(), nil
}

func (s *server) AccountUID(_ context.Context, namespace, name string) (types.UID, error) {
	return types.UID(namespace + "/" + name), nil
}

// informer lists and watches as of now.
func (s *server) informer() cache.SharedIndexInformer {
	return cache.NewSharedIndexInformer(&cache.ListWatch{
		ListWithContextFunc: func(context.Context, metav1.ListOptions) (runtime.Object, error) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.lists++
			out := &certificatesv1.PodCertificateRequestList{ListMeta: metav1.ListMeta{ResourceVersion: "1"}}
			for _, r := range s.items {
				out.Items = append(out.Items, *r)
			}
			return out, nil
		},
		WatchFuncWithContext: func(_ context.Context, o metav1.ListOptions) (watch.Interface, error) {
			if o.SendInitialEvents != nil {
				return nil, apierrors.NewInvalid(schema.GroupKind{}, "", nil)
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			s.watch = watch.NewRaceFreeFake()
			return s.watch, nil
		},
	}, &certificatesv1.PodCertificateRequest{}, 0, cache.Indexers{})
}

func (s *server) update(name string, status func(*certificatesv1.PodCertificateRequest)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.items[name].DeepCopy()
	status(r)
	s.items[name] = r
	s.watch.Modify(r)
}

func condition(kind string) []metav1.Condition {
	return []metav1.Condition{{Type: kind, Status: metav1.ConditionTrue, Reason: "Test", Message: "for a test"}}
}

// issue signs a request for a day, to be refreshed after half of it.
func (s *server) issue(name string) {
	s.update(name, func(r *certificatesv1.PodCertificateRequest) {
		req, err := x509.ParseCertificateRequest(r.Spec.StubPKCS10Request)
		if err != nil {
			s.t.Error(err)
			return
		}
		key, err := generate("ED25519")
		if err != nil {
			s.t.Error(err)
			return
		}
		tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now(), NotAfter: time.Now().Add(24 * time.Hour)}
		der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, req.PublicKey, key)
		if err != nil {
			s.t.Error(err)
		}
		at := func(d time.Duration) *metav1.Time { return new(metav1.NewTime(time.Now().Add(d))) }
		r.Status = certificatesv1.PodCertificateRequestStatus{
			Conditions: condition("Issued"), CertificateChain: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
			NotBefore: at(0), NotAfter: at(24 * time.Hour), BeginRefreshAt: at(12 * time.Hour),
		}
	})
}

func (s *server) end(name, kind string) {
	s.update(name, func(r *certificatesv1.PodCertificateRequest) { r.Status.Conditions = condition(kind) })
}

func (s *server) remove(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.watch.Delete(s.items[name])
	delete(s.items, name)
}

func (s *server) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.made)
}

func (s *server) refuses(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refuse = err
}

// world is an Issuer at work.
type world struct {
	*server
	issuer *Issuer
	stop   func()

	told   sync.Mutex // guards the rest
	events []string
	wakes  int
	during func() // is run once while a source is looked at, after its request was read
}

func (s *server) start() *world {
	w := &world{server: s}
	w.issuer = New(Deps{
		Log: zap.NewNop(), API: s, Requests: s.informer(), Node: "n", NodeUID: func() types.UID { return "nu" },
		Events: func(pod *corev1.Pod, _, kind, reason, _ string) {
			w.told.Lock()
			defer w.told.Unlock()
			w.events = append(w.events, pod.Name+" "+kind+" "+reason)
		},
		Issued: func(types.UID) {
			w.told.Lock()
			defer w.told.Unlock()
			w.wakes++
		},
		Jitter: func(most time.Duration) time.Duration {
			w.told.Lock()
			f := w.during
			w.during = nil
			w.told.Unlock()
			if f != nil {
				f()
			}
			return most / 5
		},
	})
	ctx, cancel := context.WithCancel(s.t.Context())
	done := make(chan error, 1)
	go func() { done <- w.issuer.Run(ctx) }()
	w.stop = func() {
		cancel()
		if err := <-done; err != nil {
			s.t.Error(err)
		}
	}
	return w
}

// settle gives the informer its time to begin.
func (w *world) settle() {
	time.Sleep(2 * time.Second)
	synctest.Wait()
}

func (w *world) wantEvents(want ...string) {
	w.t.Helper()
	w.told.Lock()
	defer w.told.Unlock()
	if !slices.Equal(w.events, want) {
		w.t.Errorf("events %q, want %q", w.events, want)
	}
	w.events = nil
}

func (w *world) wantRequests(want int) {
	w.t.Helper()
	synctest.Wait()
	if got := w.count(); got != want {
		w.t.Fatalf("%d requests were made, want %d", got, want)
	}
}

// wantKey checks that what the source shows is the key and certificate of a request.
func (w *world) wantKey(pod *corev1.Pod, source, request int) {
	w.t.Helper()
	synctest.Wait()
	key, chain, err := w.issuer.Credentials(pod, "v", source)
	if err != nil {
		w.t.Fatalf("source %d: %v", source, err)
	}
	b, _ := pem.Decode(chain)
	leaf, err := x509.ParseCertificate(b.Bytes)
	if err != nil {
		w.t.Fatal(err)
	}
	if !matches(w.t, key, leaf.PublicKey) {
		w.t.Error("the key is not the certificate's")
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if want := w.items[fmt.Sprintf("req-%d", request)]; string(chain) != want.Status.CertificateChain {
		w.t.Errorf("source %d does not show request %d", source, request)
	}
}

func (w *world) wantError(pod *corev1.Pod, source int, want string) {
	w.t.Helper()
	synctest.Wait()
	if _, _, err := w.issuer.Credentials(pod, "v", source); err == nil || err.Error() != want {
		w.t.Errorf("source %d: error %v, want %s", source, err, want)
	}
}

func pod(name string, kinds ...string) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: types.UID("uid-" + name)}, Spec: corev1.PodSpec{ServiceAccountName: "sa"}}
	v := corev1.Volume{Name: "v"}
	v.Projected = &corev1.ProjectedVolumeSource{}
	for _, k := range kinds {
		v.Projected.Sources = append(v.Projected.Sources, corev1.VolumeProjection{PodCertificate: &corev1.PodCertificateProjection{
			SignerName: "a.b/c", KeyType: k, MaxExpirationSeconds: new(int32(86400)), UserAnnotations: map[string]string{"a.b/k": "v"},
		}})
	}
	p.Spec.Volumes = []corev1.Volume{v}
	return p
}

func TestIssue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newServer(t).start()
		defer w.stop()
		synctest.Wait()
		w.issuer.Track(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: "plain"}})
		synctest.Wait()
		if w.lists != 0 {
			t.Error("requests are followed without a pod that needs them")
		}
		p := pod("p", "ED25519", "ECDSAP256")
		w.issuer.Track(p)
		w.issuer.Track(p)
		w.settle()
		w.wantError(p, 0, "credential bundle is not issued yet")
		w.wantRequests(2)
		want := certificatesv1.PodCertificateRequestSpec{
			SignerName: "a.b/c", PodName: "p", PodUID: "uid-p", ServiceAccountName: "sa", ServiceAccountUID: "ns/sa", NodeName: "n", NodeUID: "nu",
			MaxExpirationSeconds: new(int32(86400)), UnverifiedUserAnnotations: map[string]string{"a.b/k": "v"},
		}
		got := w.made[0].Spec
		got.StubPKCS10Request = nil
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("spec (-want +got):\n%s", d)
		}
		if o := w.made[0].OwnerReferences; len(o) != 1 || o[0].UID != "uid-p" || o[0].Kind != "Pod" || w.made[0].Namespace != "ns" {
			t.Errorf("metadata %+v", w.made[0].ObjectMeta)
		}
		w.issue("req-1")
		synctest.Wait()
		shown := 0
		for i := range 2 {
			if _, _, err := w.issuer.Credentials(p, "v", i); err == nil {
				w.wantKey(p, i, 1)
				shown++
			}
		}
		if shown != 1 || w.wakes != 1 {
			t.Errorf("%d sources show a certificate, %d wakes; want one each", shown, w.wakes)
		}
		w.issue("req-2")
		synctest.Wait()
		if d := cmp.Diff(map[Count]int{{"a.b/c", "fresh"}: 2}, w.issuer.Counts(time.Now())); d != "" {
			t.Error(d)
		}
		w.wantEvents()
		w.issuer.Forget(p.UID)
		w.wantError(p, 0, "credential bundle is not issued yet")
		time.Sleep(30 * time.Hour)
		w.wantRequests(2)
	})
}

func TestDeny(t *testing.T) {
	for kind, want := range map[string]string{
		"Denied": `PodCertificateRequest was permanently denied: reason="Test" message="for a test"`,
		"Failed": `PodCertificateRequest was permanently failed: reason="Test" message="for a test"`,
	} {
		t.Run(kind, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newServer(t).start()
				defer w.stop()
				p := pod("p", "ED25519")
				w.issuer.Track(p)
				w.settle()
				w.wantRequests(1)
				w.end("req-1", kind)
				w.wantError(p, 0, want)
				w.wantEvents("p Warning " + kind)
				w.remove("req-1")
				time.Sleep(100 * time.Hour)
				w.wantRequests(1)
				w.wantEvents()
			})
		})
	}
}

func TestRefresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newServer(t).start()
		defer w.stop()
		p := pod("p", "ED25519")
		w.issuer.Track(p)
		w.settle()
		w.wantRequests(1)
		w.issue("req-1")
		w.wantKey(p, 0, 1)
		time.Sleep(12 * time.Hour) // and the jitter of a minute
		w.wantRequests(1)
		time.Sleep(time.Minute)
		w.wantRequests(2)
		w.wantKey(p, 0, 1)
		w.issue("req-2")
		w.wantKey(p, 0, 2)
		w.wantEvents()

		// The next one is not answered: the owner hears of it twice, and the old certificate stays.
		time.Sleep(12*time.Hour + time.Minute + overdueAfter)
		w.wantRequests(3)
		w.wantEvents()
		time.Sleep(2 * time.Second)
		w.wantEvents("p Warning CertificateOverdueForRefresh")
		time.Sleep(12 * time.Hour)
		w.wantEvents("p Warning CertificateExpired")
		w.wantKey(p, 0, 2)
		w.wantRequests(3)
		w.issue("req-3")
		w.wantKey(p, 0, 3)

		// A denial of a refresh is for ever too.
		time.Sleep(12*time.Hour + time.Minute)
		w.wantRequests(4)
		w.end("req-4", "Denied")
		w.wantError(p, 0, `PodCertificateRequest was permanently denied: reason="Test" message="for a test"`)
		w.wantEvents("p Warning Denied")
	})
}

// TestMeanwhile issues while the Issuer looks at a request that it has read as pending: the change is not missed.
func TestMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newServer(t).start()
		defer w.stop()
		p := pod("p", "ED25519")
		w.issuer.Track(p)
		w.settle()
		w.wantRequests(1)
		w.told.Lock()
		w.during = func() {
			w.issue("req-1")
			time.Sleep(time.Second) // the cache and the handler hear of it
		}
		w.told.Unlock()
		w.update("req-1", func(r *certificatesv1.PodCertificateRequest) { r.Labels = map[string]string{"a": "b"} })
		time.Sleep(2 * time.Second)
		w.wantKey(p, 0, 1)
	})
}

// TestForgottenMeanwhile forgets a pod while a request for it is made: its key is not kept.
func TestForgottenMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newServer(t).start()
		defer w.stop()
		p := pod("p", "ED25519")
		w.told.Lock()
		w.during = func() { w.issuer.Forget(p.UID) }
		w.told.Unlock()
		w.issuer.Track(p)
		w.settle()
		w.wantRequests(1)
		w.issue("req-1")
		w.wantError(p, 0, "credential bundle is not issued yet")
		if n := len(w.issuer.Counts(time.Now())); n != 0 {
			t.Errorf("%d sources of a pod that is gone", n)
		}
	})
}

// TestLost deletes a request before it is answered: it is waited for, and then made again.
func TestLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newServer(t).start()
		defer w.stop()
		p := pod("p", "ED25519")
		w.issuer.Track(p)
		w.settle()
		w.wantRequests(1)
		w.remove("req-1")
		time.Sleep(abandonAfter + spread/5 - 3*time.Second)
		w.wantRequests(1)
		time.Sleep(5 * time.Second)
		w.wantRequests(2)
		w.issue("req-2")
		w.wantKey(p, 0, 2)
	})
}

// TestRefused makes requests fail: they are tried again, ever more slowly.
func TestRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newServer(t).start()
		defer w.stop()
		w.refuses(errors.New("no"))
		p := pod("p", "ED25519")
		w.issuer.Track(p)
		time.Sleep(10 * time.Minute)
		w.wantRequests(0)
		w.refuses(nil)
		time.Sleep(mostPause)
		w.wantRequests(1)
		w.issue("req-1")
		w.wantKey(p, 0, 1)
	})
}

// TestRestart ends an Issuer whose request is not answered and starts another: the key is gone, so that it asks anew, and
// what the first one asked for is nobody's.
func TestRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		p := pod("p", "ED25519")
		first := s.start()
		first.issuer.Track(p)
		first.settle()
		first.wantRequests(1)
		first.stop()
		second := s.start()
		defer second.stop()
		second.issuer.Track(p)
		second.settle()
		second.wantRequests(2)
		s.issue("req-1")
		second.wantError(p, 0, "credential bundle is not issued yet")
		s.issue("req-2")
		second.wantKey(p, 0, 2)
	})
}

// TestUntracked are pods that get nothing.
func TestUntracked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newServer(t).start()
		defer w.stop()
		static := pod("static", "ED25519")
		static.Annotations = map[string]string{"kubernetes.io/config.source": "file"}
		over := pod("over", "ED25519")
		over.Status.Phase = corev1.PodSucceeded
		w.issuer.Track(static)
		w.issuer.Track(over)
		w.wantRequests(0)

		ends := pod("ends", "ED25519")
		w.issuer.Track(ends)
		w.settle()
		w.wantRequests(1)
		w.issue("req-1")
		w.wantKey(ends, 0, 1)
		ends = ends.DeepCopy()
		ends.Status.Phase = corev1.PodFailed
		w.issuer.Track(ends)
		w.wantError(ends, 0, "credential bundle is not issued yet")
	})
}
