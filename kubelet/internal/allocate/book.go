package allocate

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/dump"
)

// Info is the resources of one pod.
type Info struct {
	ContainerResources map[string]corev1.ResourceRequirements
	PodLevelResources  *corev1.ResourceRequirements
}

// book is one file of pods' resources.
type book struct {
	path string

	mu   sync.Mutex // guards pods, and the file
	pods map[types.UID]Info
}

type entries struct {
	Entries map[types.UID]Info `json:"entries,omitempty"`
}

type sealed struct {
	Data     string `json:"data"`
	Checksum uint64 `json:"checksum"`
}

func checksum(data string) uint64 {
	h := fnv.New32a()
	fmt.Fprintf(h, "%v", dump.ForHash(data))
	return uint64(h.Sum32())
}

// openBook reads the file; one that is missing is an empty book.
func openBook(path string) (*book, error) {
	b := &book{path: path, pods: map[types.UID]Info{}}
	raw, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		return b, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read resources of pods: %w", err)
	}
	var s sealed
	if err := json.Unmarshal(raw, &s); err != nil {
		return nil, fmt.Errorf("read resources of pods: %s: %w", path, err)
	}
	if s.Checksum != checksum(s.Data) {
		return nil, fmt.Errorf("read resources of pods: %s: checksum does not match", path)
	}
	var e entries
	if err := json.Unmarshal([]byte(s.Data), &e); err != nil {
		return nil, fmt.Errorf("read resources of pods: %s: %w", path, err)
	}
	if e.Entries != nil {
		b.pods = e.Entries
	}
	return b, nil
}

func (b *book) get(uid types.UID) (Info, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	i, ok := b.pods[uid]
	return i, ok
}

// change lets f alter the pod's entry (false removes it) and writes the file; the old entry stays when that fails.
func (b *book) change(uid types.UID, f func(Info) (Info, bool)) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	old, had := b.pods[uid]
	next, keep := f(old)
	if keep {
		b.pods[uid] = next
	} else if !had {
		return nil
	} else {
		delete(b.pods, uid)
	}
	err := b.save()
	if err != nil && had {
		b.pods[uid] = old
	} else if err != nil {
		delete(b.pods, uid)
	}
	return err
}

// save replaces the file as a whole.
func (b *book) save() error {
	data, err := json.Marshal(entries{b.pods})
	if err != nil {
		return fmt.Errorf("encode resources of pods: %w", err)
	}
	raw, err := json.Marshal(sealed{string(data), checksum(string(data))})
	if err != nil {
		return fmt.Errorf("encode resources of pods: %w", err)
	}
	tmp := filepath.Join(filepath.Dir(b.path), "."+filepath.Base(b.path))
	if err := os.WriteFile(tmp, raw, 0o600); err != nil {
		return fmt.Errorf("write resources of pods: %w", err)
	}
	return os.Rename(tmp, b.path)
}

// Books are the node's grants and their effects. It is safe for concurrent use.
type Books struct{ granted, actuated *book }

// Open reads the books in the kubelet's folder.
func Open(dir string) (*Books, error) {
	granted, err := openBook(filepath.Join(dir, "allocated_pods_state"))
	if err != nil {
		return nil, err
	}
	actuated, err := openBook(filepath.Join(dir, "actuated_pods_state"))
	if err != nil {
		return nil, err
	}
	return &Books{granted, actuated}, nil
}

// Granted is the pod with the resources that the node has granted it; differs says that it declares others. A pod without a
// grant is returned as it is, with known false.
func (b *Books) Granted(pod *corev1.Pod) (granted *corev1.Pod, differs, known bool) {
	i, ok := b.granted.get(pod.UID)
	if !ok {
		return pod, false, false
	}
	granted, differs = Substitute(pod, i)
	return granted, differs, true
}

// Grant gives the pod what it declares.
func (b *Books) Grant(pod *corev1.Pod) error {
	return b.granted.change(pod.UID, func(Info) (Info, bool) { return InfoOf(pod), true })
}

// Actuated is what took effect for the pod's containers and the pod as a whole.
func (b *Books) Actuated(uid types.UID) Info {
	i, _ := b.actuated.get(uid)
	return i
}

// Actuate tells that a container runs with these resources.
func (b *Books) Actuate(uid types.UID, container string, r corev1.ResourceRequirements) error {
	return b.actuated.change(uid, func(old Info) (Info, bool) {
		next := Info{ContainerResources: map[string]corev1.ResourceRequirements{}, PodLevelResources: old.PodLevelResources}
		for name, have := range old.ContainerResources {
			next.ContainerResources[name] = have
		}
		next.ContainerResources[container] = *r.DeepCopy()
		return next, true
	})
}

// ActuatePod tells that the pod's cgroup has its resources; nil leaves no entry of the pod's own.
func (b *Books) ActuatePod(uid types.UID, r *corev1.ResourceRequirements) error {
	if have, _ := b.actuated.get(uid); r == nil && have.PodLevelResources == nil {
		return nil
	}
	return b.actuated.change(uid, func(old Info) (Info, bool) {
		return Info{ContainerResources: old.ContainerResources, PodLevelResources: r.DeepCopy()}, true
	})
}

// Forget drops a pod.
func (b *Books) Forget(uid types.UID) error {
	gone := func(Info) (Info, bool) { return Info{}, false }
	if err := b.granted.change(uid, gone); err != nil {
		return err
	}
	return b.actuated.change(uid, gone)
}

// Pods lists the pods in the books.
func (b *Books) Pods() []types.UID {
	var out []types.UID
	seen := map[types.UID]bool{}
	for _, k := range []*book{b.granted, b.actuated} {
		k.mu.Lock()
		for uid := range k.pods {
			if !seen[uid] {
				seen[uid] = true
				out = append(out, uid)
			}
		}
		k.mu.Unlock()
	}
	return out
}
