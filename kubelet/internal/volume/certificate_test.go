package volume

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
)

// issuer gives the second source of volume v a certificate.
type issuer struct{ key, chain string }

func (i *issuer) Credentials(_ *corev1.Pod, volume string, source int) (key, chain []byte, err error) {
	if volume != "v" || source != 1 || i.key == "" {
		return nil, nil, errors.New("not issued")
	}
	return []byte(i.key), []byte(i.chain), nil
}

func TestProjectCertificate(t *testing.T) {
	source := &corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{DefaultMode: new(int32(0o640)), Sources: []corev1.VolumeProjection{
		{DownwardAPI: &corev1.DownwardAPIProjection{Items: []corev1.DownwardAPIVolumeFile{{Path: "name", FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.name"}}}}},
		{PodCertificate: &corev1.PodCertificateProjection{CredentialBundlePath: "bundle.pem", KeyPath: "d/key.pem", CertificateChainPath: "d/chain.pem"}},
	}}}
	own := &issuer{}
	m := New(Config{}, Deps{Certificates: own})
	pod := &corev1.Pod{}
	pod.Name = "p"
	if _, err := m.files(t.Context(), pod, "v", source); err == nil || err.Error() != "not issued" {
		t.Errorf("before the certificate: %v", err)
	}
	dir := t.TempDir()
	show := func(want map[string]string) {
		t.Helper()
		files, err := m.files(t.Context(), pod, "v", source)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := WriteAtomic(dir, files, nil); err != nil {
			t.Fatal(err)
		}
		got := map[string]string{}
		for p := range files {
			data, err := os.ReadFile(filepath.Join(dir, p))
			if err != nil {
				t.Fatal(err)
			}
			got[p] = string(data)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("files (-want +got):\n%s", d)
		}
	}
	own.key, own.chain = "K1\n", "C1\n"
	show(map[string]string{"name": "p", "bundle.pem": "K1\nC1\n", "d/key.pem": "K1\n", "d/chain.pem": "C1\n"})
	own.key, own.chain = "K2\n", "C2\n"
	show(map[string]string{"name": "p", "bundle.pem": "K2\nC2\n", "d/key.pem": "K2\n", "d/chain.pem": "C2\n"})

	user, group := new(int64(1000)), new(int64(2000))
	for name, tc := range map[string]struct {
		security *corev1.PodSecurityContext
		mode     os.FileMode
		uid      *int64
	}{
		"anybody":    {nil, 0o640, nil},
		"one user":   {&corev1.PodSecurityContext{RunAsUser: user}, 0o600, user},
		"one group":  {&corev1.PodSecurityContext{FSGroup: group}, 0o600, nil},
		"user group": {&corev1.PodSecurityContext{RunAsUser: user, FSGroup: group}, 0o600, nil},
	} {
		pod.Spec = corev1.PodSpec{SecurityContext: tc.security, Containers: []corev1.Container{{Name: "c"}}}
		files, err := m.files(t.Context(), pod, "v", source)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range []string{"bundle.pem", "d/key.pem", "d/chain.pem"} {
			if f := files[p]; f.Mode != tc.mode || (f.UID == nil) != (tc.uid == nil) || f.UID != nil && *f.UID != *tc.uid {
				t.Errorf("%s: %s has mode %o and owner %v", name, p, f.Mode, f.UID)
			}
		}
	}
	if _, err := New(Config{}, Deps{}).files(t.Context(), pod, "v", source); err == nil {
		t.Error("a kubelet without an API server shows a certificate")
	}
}
