package image

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kubeletv1beta1 "k8s.io/kubelet/config/v1beta1"
)

// maxSecrets is how many secrets of one image are noted when they merely match, as upstream bounds it.
const maxSecrets = 100

// Records remember by which credentials images came to the node, so that a pod without them does not get an image that is
// there only because another pod's secret fetched it. They are files of upstream's names and format below
// image_manager/. It is safe for concurrent use.
type Records struct {
	pulling, pulled string
	policy          kubeletv1beta1.ImagePullCredentialsVerificationPolicy
	allowed         []string

	mu      sync.Mutex // guards the files and intents
	intents map[string]int
}

// OpenRecords makes the folders below the kubelet's.
func OpenRecords(dir string, policy kubeletv1beta1.ImagePullCredentialsVerificationPolicy, allowed []string) (*Records, error) {
	r := &Records{
		pulling: filepath.Join(dir, "image_manager", "pulling"), pulled: filepath.Join(dir, "image_manager", "pulled"),
		policy: policy, allowed: allowed, intents: map[string]int{},
	}
	switch policy {
	case kubeletv1beta1.NeverVerify, kubeletv1beta1.NeverVerifyPreloadedImages, kubeletv1beta1.NeverVerifyAllowlistedImages, kubeletv1beta1.AlwaysVerify:
	default:
		return nil, fmt.Errorf("imagePullCredentialsVerificationPolicy: unknown policy %q", policy)
	}
	for _, p := range allowed {
		if rest, _ := strings.CutSuffix(p, "/*"); p != strings.TrimSpace(p) || rest == "" || strings.Contains(rest, "*") {
			return nil, fmt.Errorf("preloadedImagesVerificationAllowlist: %q is neither an image name nor a prefix that ends in /*", p)
		}
	}
	for _, d := range []string{r.pulling, r.pulled} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return nil, fmt.Errorf("make folder of image records: %w", err)
		}
	}
	return r, nil
}

func recordName(of string) string { return fmt.Sprintf("sha256-%x", sha256.Sum256([]byte(of))) }

// withoutTag is an image name without tag and digest.
func withoutTag(image string) string {
	name, _, _ := strings.Cut(image, "@")
	if i := strings.LastIndex(name, ":"); i > strings.LastIndex(name, "/") {
		name = name[:i]
	}
	return name
}

func write(path string, v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode image record: %w", err)
	}
	if err := os.WriteFile(path+".tmp", raw, 0o600); err != nil {
		return fmt.Errorf("write image record: %w", err)
	}
	return os.Rename(path+".tmp", path)
}

func kind(name string) metav1.TypeMeta {
	return metav1.TypeMeta{Kind: name, APIVersion: kubeletv1beta1.SchemeGroupVersion.String()}
}

// Intend notes that the image is about to be pulled: were the kubelet killed afterwards, the image would not pass for one
// that was there before.
func (r *Records) Intend(image string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.intents[image]++; r.intents[image] > 1 {
		return nil
	}
	return write(filepath.Join(r.pulling, recordName(image)), kubeletv1beta1.ImagePullIntent{TypeMeta: kind("ImagePullIntent"), Image: image})
}

// Failed withdraws the intent.
func (r *Records) Failed(image string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.withdraw(image)
}

func (r *Records) withdraw(image string) {
	if r.intents[image]--; r.intents[image] > 0 {
		return
	}
	delete(r.intents, image)
	_ = os.Remove(filepath.Join(r.pulling, recordName(image)))
}

// Pulled notes that the image came by a secret, or, with nil, by what every pod of the node may use.
func (r *Records) Pulled(image, ref string, secret *kubeletv1beta1.ImagePullSecret, now time.Time) error {
	creds := kubeletv1beta1.ImagePullCredentials{NodePodsAccessible: secret == nil}
	if secret != nil {
		creds.KubernetesSecrets = []kubeletv1beta1.ImagePullSecret{*secret}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.merge(image, ref, creds, now); err != nil {
		return err // the intent stays, and with it the knowledge that the image was pulled
	}
	r.withdraw(image)
	return nil
}

func (r *Records) read(ref string) (rec *kubeletv1beta1.ImagePulledRecord, err error) {
	raw, err := os.ReadFile(filepath.Join(r.pulled, recordName(ref)))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read image record: %w", err)
	}
	rec = &kubeletv1beta1.ImagePulledRecord{}
	if err := json.Unmarshal(raw, rec); err != nil {
		return nil, fmt.Errorf("read image record of %s: %w", ref, err)
	}
	return rec, nil
}

// merge adds credentials to the record. r.mu is held.
func (r *Records) merge(image, ref string, creds kubeletv1beta1.ImagePullCredentials, now time.Time) error {
	rec, err := r.read(ref)
	if rec == nil || err != nil {
		rec = &kubeletv1beta1.ImagePulledRecord{ImageRef: ref}
	}
	next, changed := Merge(rec.CredentialMapping[withoutTag(image)], creds)
	if !changed {
		return nil
	}
	if rec.CredentialMapping == nil {
		rec.CredentialMapping = map[string]kubeletv1beta1.ImagePullCredentials{}
	}
	rec.CredentialMapping[withoutTag(image)] = next
	rec.TypeMeta, rec.LastUpdatedTime = kind("ImagePulledRecord"), metav1.NewTime(now)
	return write(filepath.Join(r.pulled, recordName(ref)), rec)
}

// Merge adds credentials to those that are known; what every pod of the node may use makes secrets needless.
func Merge(have, add kubeletv1beta1.ImagePullCredentials) (out kubeletv1beta1.ImagePullCredentials, changed bool) {
	switch {
	case have.NodePodsAccessible:
		return have, false
	case add.NodePodsAccessible:
		return kubeletv1beta1.ImagePullCredentials{NodePodsAccessible: true}, true
	}
	out = have
	out.KubernetesSecrets = slices.Clone(have.KubernetesSecrets)
	for _, s := range add.KubernetesSecrets {
		i := slices.IndexFunc(out.KubernetesSecrets, func(o kubeletv1beta1.ImagePullSecret) bool {
			return o.UID == s.UID && o.Namespace == s.Namespace && o.Name == s.Name
		})
		switch {
		case i < 0:
			out.KubernetesSecrets, changed = append(out.KubernetesSecrets, s), true
		case out.KubernetesSecrets[i] != s:
			out.KubernetesSecrets[i], changed = s, true
		}
	}
	return out, changed
}

// MustPull says whether a pod with these secrets may not use the image that is there without the registry's consent.
func (r *Records) MustPull(image, ref string, secrets []kubeletv1beta1.ImagePullSecret, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	rec, err := r.read(ref)
	if err != nil {
		return true
	}
	pulled := rec != nil || r.intents[image] > 0
	if !pulled {
		_, err := os.Stat(filepath.Join(r.pulling, recordName(image)))
		pulled = err == nil
	}
	if !r.verifies(image, pulled) {
		return false
	}
	if rec == nil {
		return true
	}
	creds, ok := rec.CredentialMapping[withoutTag(image)]
	if !ok {
		return true
	}
	if creds.NodePodsAccessible {
		return false
	}
	s, ok := Match(creds.KubernetesSecrets, secrets)
	if !ok {
		return true
	}
	if len(creds.KubernetesSecrets) < maxSecrets {
		_ = r.merge(image, ref, kubeletv1beta1.ImagePullCredentials{KubernetesSecrets: []kubeletv1beta1.ImagePullSecret{s}}, now)
	}
	return false
}

// Match finds a secret of the pod that is one by which the image came: the same content, or the same object.
func Match(known, secrets []kubeletv1beta1.ImagePullSecret) (found kubeletv1beta1.ImagePullSecret, ok bool) {
	for _, s := range secrets {
		for _, k := range known {
			if (k.CredentialHash != "" && k.CredentialHash == s.CredentialHash) || (k.UID == s.UID && k.Namespace == s.Namespace && k.Name == s.Name) {
				return s, true
			}
		}
	}
	return found, false
}

// verifies applies the policy to an image that the kubelet pulled, or that was there before.
func (r *Records) verifies(image string, pulled bool) bool {
	switch r.policy {
	case kubeletv1beta1.NeverVerify:
		return false
	case kubeletv1beta1.NeverVerifyPreloadedImages:
		return pulled
	case kubeletv1beta1.NeverVerifyAllowlistedImages:
		name := withoutTag(image)
		return !slices.ContainsFunc(r.allowed, func(p string) bool {
			prefix, wild := strings.CutSuffix(p, "*")
			return p == name || (wild && strings.HasPrefix(name, prefix))
		})
	}
	return true
}

// Prune forgets images that are gone and were not pulled since.
func (r *Records) Prune(refs []string, since time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	keep := map[string]bool{}
	for _, ref := range refs {
		keep[recordName(ref)] = true
	}
	entries, err := os.ReadDir(r.pulled)
	if err != nil {
		return
	}
	for _, e := range entries {
		if info, err := e.Info(); err == nil && !keep[e.Name()] && info.ModTime().Before(since) {
			_ = os.Remove(filepath.Join(r.pulled, e.Name()))
		}
	}
}

// Recover turns intents of an earlier process whose image is there into records without credentials, so that the image
// does not pass for one that was there before; names maps an image's reference to the names it has.
func (r *Records) Recover(names map[string][]string, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	entries, err := os.ReadDir(r.pulling)
	if err != nil {
		return
	}
	for _, e := range entries {
		path := filepath.Join(r.pulling, e.Name())
		raw, err := os.ReadFile(path)
		var intent kubeletv1beta1.ImagePullIntent
		if err != nil || json.Unmarshal(raw, &intent) != nil || r.intents[intent.Image] > 0 {
			continue
		}
		for ref, list := range names {
			if !slices.Contains(list, intent.Image) {
				continue
			}
			if rec, err := r.read(ref); rec == nil && err == nil {
				err = write(filepath.Join(r.pulled, recordName(ref)), kubeletv1beta1.ImagePulledRecord{TypeMeta: kind("ImagePulledRecord"), LastUpdatedTime: metav1.NewTime(now), ImageRef: ref})
				if err != nil {
					return
				}
			}
		}
		_ = os.Remove(path)
	}
}

// credentialHash is upstream's hash of what a secret gives the registry.
func credentialHash(username, password string) string {
	raw, err := json.Marshal(struct {
		Username string `json:"username,omitempty"`
		Password string `json:"password,omitempty"`
	}{username, password})
	if err != nil {
		return ""
	}
	h := sha256.Sum256(raw)
	return hex.EncodeToString(h[:])
}
