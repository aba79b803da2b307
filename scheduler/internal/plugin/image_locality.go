package plugin

import "flagship/scheduler/internal/snapshot"

// ImageLocality prefers nodes that have a pod's images, the large ones first and those that are widespread, so that nodes
// do not heat up.
type ImageLocality struct{}

// Image sizes below the one and above the other (per image) make no difference. Bytes.
const (
	imageFloor   = 23 * 1024 * 1024
	imageCeiling = 1000 * 1024 * 1024
)

// Name is upstream's plugin name.
func (ImageLocality) Name() string { return "ImageLocality" }

// Rank implements Scorer.
func (ImageLocality) Rank(c *snapshot.Cluster, p *snapshot.Pod, _ []int) *Ranking {
	var names []string
	for i := range p.Spec.InitContainers {
		names = append(names, snapshot.ImageName(p.Spec.InitContainers[i].Image))
	}
	for i := range p.Spec.Containers {
		names = append(names, snapshot.ImageName(p.Spec.Containers[i].Image))
	}
	for i := range p.Spec.Volumes {
		if img := p.Spec.Volumes[i].Image; img != nil {
			names = append(names, snapshot.ImageName(img.Reference))
		}
	}
	if len(names) == 0 {
		return nil
	}
	total := float64(len(c.Order()))
	ceiling := int64(imageCeiling * len(names))
	return &Ranking{Score: func(node int) int64 {
		var sum int64
		for _, name := range names {
			if size, nodes, ok := c.Image(node, name); ok {
				sum += int64(float64(size) * float64(nodes) / total)
			}
		}
		sum = min(max(sum, imageFloor), ceiling)
		return MaxScore * (sum - imageFloor) / (ceiling - imageFloor)
	}}
}
