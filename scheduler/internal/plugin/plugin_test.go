package plugin_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/types"
	schedconfig "k8s.io/kube-scheduler/config/v1"
	"sigs.k8s.io/yaml"

	"flagship/scheduler/internal/plugin"
	"flagship/scheduler/internal/snapshot"
)

func parse[T any](t *testing.T, text string) *T {
	t.Helper()
	out := new(T)
	if err := yaml.UnmarshalStrict([]byte(text), out); err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	return out
}

func newPod(t *testing.T, name, spec string) *snapshot.Pod {
	t.Helper()
	p := parse[v1.Pod](t, spec)
	p.Name, p.UID = name, types.UID("uid-"+name)
	if p.Namespace == "" {
		p.Namespace = "ns"
	}
	out, err := snapshot.NewPod(p)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// three nodes: a and b in zone z1, c in zone z2; c has a taint.
const (
	nodeA = `{metadata: {name: a, labels: {kubernetes.io/hostname: a, topology.kubernetes.io/zone: z1, disk: ssd}}, status: {allocatable: {cpu: "4", memory: 8Gi, pods: "10", example.com/gpu: "1"}}}`
	nodeB = `{metadata: {name: b, labels: {kubernetes.io/hostname: b, topology.kubernetes.io/zone: z1}}, status: {allocatable: {cpu: "4", memory: 8Gi, pods: "10"}}}`
	nodeC = `{metadata: {name: c, labels: {kubernetes.io/hostname: c, topology.kubernetes.io/zone: z2}}, spec: {taints: [{key: k, value: v, effect: NoSchedule}]}, status: {allocatable: {cpu: "4", memory: 8Gi, pods: "10"}}}`
)

func cluster(t *testing.T, pods ...string) *snapshot.Cluster {
	c := snapshot.New()
	for _, n := range []string{nodeA, nodeB, nodeC} {
		c.SetNode(parse[v1.Node](t, n))
	}
	for i, p := range pods {
		pod := parse[v1.Pod](t, p)
		pod.Name = "placed" + string(rune('0'+i))
		pod.UID = types.UID("uid-" + pod.Name)
		if pod.Namespace == "" {
			pod.Namespace = "ns"
		}
		out, err := snapshot.NewPod(pod)
		if err != nil {
			t.Fatal(err)
		}
		c.AddPod(out)
	}
	return c
}

func newFit(t *testing.T, strategy schedconfig.ScoringStrategyType) *plugin.NodeResourcesFit {
	f, err := plugin.NewNodeResourcesFit(schedconfig.NodeResourcesFitArgs{ScoringStrategy: &schedconfig.ScoringStrategy{
		Type: strategy, Resources: []schedconfig.ResourceSpec{{Name: "cpu", Weight: 1}, {Name: "memory", Weight: 1}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func newSpread(t *testing.T) *plugin.PodTopologySpread {
	s, err := plugin.NewPodTopologySpread(schedconfig.PodTopologySpreadArgs{DefaultingType: schedconfig.SystemDefaulting})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func newAffinity(t *testing.T, added *v1.NodeAffinity) *plugin.NodeAffinity {
	a, err := plugin.NewNodeAffinity(added)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func near() *plugin.InterPodAffinity {
	one := int32(1)
	return plugin.NewInterPodAffinity(schedconfig.InterPodAffinityArgs{HardPodAffinityWeight: &one})
}

// verdicts renders what a filter says of each node: "ok" or the reasons; "*: …" when it rejects the pod as such.
func verdicts(c *snapshot.Cluster, f plugin.Filter, p *snapshot.Pod) string {
	prep := f.Prepare(c, p)
	if prep.Rejected != nil {
		return "*: " + strings.Join(prep.Rejected.Reasons, ", ")
	}
	var out []string
	for _, name := range []string{"a", "b", "c"} {
		node, _ := c.Index(name)
		say := "ok"
		if prep.Check != nil {
			if v := prep.Check(node); v != nil {
				say = strings.Join(v.Reasons, ", ")
				if v.Code == plugin.Unresolvable {
					say += " (final)"
				}
			}
		}
		out = append(out, name+": "+say)
	}
	return strings.Join(out, "; ")
}

const same = "a: ok; b: ok; c: ok"

func TestFilters(t *testing.T) {
	const (
		onA       = `{metadata: {labels: {app: x}}, spec: {nodeName: a, containers: [{resources: {requests: {cpu: "3", example.com/gpu: "1"}}, ports: [{hostPort: 80, protocol: TCP}]}]}}`
		antiOnA   = `{metadata: {labels: {app: x}}, spec: {nodeName: a, affinity: {podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: topology.kubernetes.io/zone, labelSelector: {matchLabels: {app: y}}}]}}}}`
		noAnti    = "node(s) didn't satisfy existing pods anti-affinity rules"
		noNode    = "node(s) didn't match Pod's node affinity/selector (final)"
		noPorts   = "node(s) didn't have free ports for the requested pod ports"
		noSpread  = "node(s) didn't match pod topology spread constraints"
		noPodRule = "node(s) didn't match pod affinity rules (final)"
	)
	for name, c := range map[string]struct {
		filter plugin.Filter
		placed []string
		pod    string
		want   string
	}{
		"node name":                    {plugin.NodeName{}, nil, `{spec: {nodeName: b}}`, "a: node(s) didn't match the requested node name (final); b: ok; c: node(s) didn't match the requested node name (final)"},
		"taint":                        {plugin.TaintToleration{}, nil, `{}`, "a: ok; b: ok; c: node(s) had untolerated taint(s) (final)"},
		"taint tolerated":              {plugin.TaintToleration{}, nil, `{spec: {tolerations: [{key: k, operator: Exists}]}}`, same},
		"taint tolerated by value":     {plugin.TaintToleration{}, nil, `{spec: {tolerations: [{key: k, value: v, effect: NoSchedule}]}}`, same},
		"selector":                     {newAffinity(t, nil), nil, `{spec: {nodeSelector: {disk: ssd}}}`, "a: ok; b: " + noNode + "; c: " + noNode},
		"affinity by name":             {newAffinity(t, nil), nil, `{spec: {affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchFields: [{key: metadata.name, operator: In, values: [b]}]}]}}}}}`, "a: " + noNode + "; b: ok; c: " + noNode},
		"affinity conflict":            {newAffinity(t, nil), nil, `{spec: {affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchFields: [{key: metadata.name, operator: In, values: [b]}, {key: metadata.name, operator: In, values: [a]}]}]}}}}}`, "*: pod affinity terms conflict"},
		"port":                         {plugin.NodePorts{}, []string{onA}, `{spec: {containers: [{ports: [{hostPort: 80, protocol: TCP}]}]}}`, "a: " + noPorts + "; b: ok; c: ok"},
		"port of another protocol":     {plugin.NodePorts{}, []string{onA}, `{spec: {containers: [{ports: [{hostPort: 80, protocol: UDP}]}]}}`, same},
		"port on one address":          {plugin.NodePorts{}, []string{onA}, `{spec: {containers: [{ports: [{hostPort: 80, hostIP: 127.0.0.1, protocol: TCP}]}]}}`, "a: " + noPorts + "; b: ok; c: ok"},
		"cpu":                          {newFit(t, "LeastAllocated"), []string{onA}, `{spec: {containers: [{resources: {requests: {cpu: "2"}}}]}}`, "a: Insufficient cpu; b: ok; c: ok"},
		"cpu beyond every node":        {newFit(t, "LeastAllocated"), nil, `{spec: {containers: [{resources: {requests: {cpu: "5"}}}]}}`, "a: Insufficient cpu (final); b: Insufficient cpu (final); c: Insufficient cpu (final)"},
		"init container":               {newFit(t, "LeastAllocated"), []string{onA}, `{spec: {initContainers: [{resources: {requests: {cpu: "2"}}}], containers: [{resources: {requests: {cpu: 100m}}}]}}`, "a: Insufficient cpu; b: ok; c: ok"},
		"sidecars add up":              {newFit(t, "LeastAllocated"), nil, `{spec: {initContainers: [{restartPolicy: Always, resources: {requests: {cpu: "2"}}}], containers: [{resources: {requests: {cpu: 2500m}}}]}}`, "a: Insufficient cpu (final); b: Insufficient cpu (final); c: Insufficient cpu (final)"},
		"overhead":                     {newFit(t, "LeastAllocated"), []string{onA}, `{spec: {overhead: {cpu: 600m}, containers: [{resources: {requests: {cpu: 500m}}}]}}`, "a: Insufficient cpu; b: ok; c: ok"},
		"extended resource":            {newFit(t, "LeastAllocated"), []string{onA}, `{spec: {containers: [{resources: {requests: {example.com/gpu: "1"}}}]}}`, "a: Insufficient example.com/gpu; b: Insufficient example.com/gpu (final); c: Insufficient example.com/gpu (final)"},
		"existing anti-affinity":       {near(), []string{antiOnA}, `{metadata: {labels: {app: y}}}`, "a: " + noAnti + "; b: " + noAnti + "; c: ok"},
		"existing anti-affinity spare": {near(), []string{antiOnA}, `{metadata: {labels: {app: z}}}`, same},
		"anti-affinity":                {near(), []string{onA}, `{spec: {affinity: {podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: kubernetes.io/hostname, labelSelector: {matchLabels: {app: x}}}]}}}}`, "a: node(s) didn't match pod anti-affinity rules; b: ok; c: ok"},
		"affinity":                     {near(), []string{onA}, `{spec: {affinity: {podAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: topology.kubernetes.io/zone, labelSelector: {matchLabels: {app: x}}}]}}}}`, "a: ok; b: ok; c: " + noPodRule},
		"affinity of another namespace": {
			near(),
			[]string{onA},
			`{metadata: {namespace: other}, spec: {affinity: {podAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: topology.kubernetes.io/zone, labelSelector: {matchLabels: {app: x}}}]}}}}`,
			"a: " + noPodRule + "; b: " + noPodRule + "; c: " + noPodRule,
		},
		"affinity of the first": {near(), nil, `{metadata: {labels: {app: x}}, spec: {affinity: {podAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: topology.kubernetes.io/zone, labelSelector: {matchLabels: {app: x}}}]}}}}`, same},
		"spread": {
			newSpread(t),
			[]string{onA},
			`{metadata: {labels: {app: x}}, spec: {topologySpreadConstraints: [{maxSkew: 1, topologyKey: topology.kubernetes.io/zone, whenUnsatisfiable: DoNotSchedule, labelSelector: {matchLabels: {app: x}}}]}}`,
			"a: " + noSpread + "; b: " + noSpread + "; c: ok",
		},
		"spread honours taints": {
			newSpread(t),
			[]string{onA},
			`{metadata: {labels: {app: x}}, spec: {topologySpreadConstraints: [{maxSkew: 1, nodeTaintsPolicy: Honor, topologyKey: topology.kubernetes.io/zone, whenUnsatisfiable: DoNotSchedule, labelSelector: {matchLabels: {app: x}}}]}}`,
			"a: ok; b: ok; c: ok",
		},
		"spread by missing label": {
			newSpread(t), nil, `{spec: {topologySpreadConstraints: [{maxSkew: 1, topologyKey: disk, whenUnsatisfiable: DoNotSchedule, labelSelector: {}}]}}`,
			"a: ok; b: " + noSpread + " (missing required label) (final); c: " + noSpread + " (missing required label) (final)",
		},
		"spread over more domains": {
			newSpread(t),
			[]string{onA},
			`{metadata: {labels: {app: x}}, spec: {topologySpreadConstraints: [{maxSkew: 1, minDomains: 3, topologyKey: topology.kubernetes.io/zone, whenUnsatisfiable: DoNotSchedule, labelSelector: {matchLabels: {app: x}}}]}}`,
			"a: " + noSpread + "; b: " + noSpread + "; c: ok",
		},
		"resource claims": {plugin.DynamicResources{}, nil, `{spec: {resourceClaims: [{name: gpu}]}}`, "*: pod has resource claims, which this scheduler does not allocate"},
	} {
		t.Run(name, func(t *testing.T) {
			got := verdicts(cluster(t, c.placed...), c.filter, newPod(t, "new", c.pod))
			if d := cmp.Diff(c.want, got); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

func TestVolumes(t *testing.T) {
	const using = `{spec: {volumes: [{name: v, persistentVolumeClaim: {claimName: data}}]}}`
	const bound = `{metadata: {name: data, namespace: ns, annotations: {pv.kubernetes.io/bind-completed: "yes"}}, spec: {volumeName: pv1, accessModes: [ReadWriteOncePod]}}`
	const local = `{metadata: {name: pv1}, spec: {capacity: {storage: 1Gi}, accessModes: [ReadWriteOnce], storageClassName: late, nodeAffinity: {required: {nodeSelectorTerms: [{matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: [b]}]}]}}}, status: {phase: Available}}`
	const late = `{metadata: {name: data, namespace: ns}, spec: {storageClassName: late, accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}}`
	const conflict = "node(s) didn't match PersistentVolume's node affinity (final)"
	const unmatched = "node(s) didn't find available persistent volumes to bind (final)"
	for name, c := range map[string]struct {
		filter                 plugin.Filter
		claim, pv, provisioner string
		placed                 []string
		want                   string
	}{
		"missing claim":              {plugin.VolumeBinding{}, "", "", "", nil, `*: persistentvolumeclaim "data" not found`},
		"bound to a node's volume":   {plugin.VolumeBinding{}, bound, local, "", nil, "a: " + conflict + "; b: ok; c: " + conflict},
		"bound to nothing":           {plugin.VolumeBinding{}, bound, "", "", nil, strings.ReplaceAll("a: X; b: X; c: X", "X", "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s) (final)")},
		"immediate":                  {plugin.VolumeBinding{}, `{metadata: {name: data, namespace: ns}, spec: {storageClassName: ""}}`, "", "", nil, "*: pod has unbound immediate PersistentVolumeClaims"},
		"late, to be matched":        {plugin.VolumeBinding{}, late, local, "kubernetes.io/no-provisioner", nil, "a: " + unmatched + "; b: ok; c: " + unmatched},
		"late, to be provisioned":    {plugin.VolumeBinding{}, late, "", "csi.example.com", nil, same},
		"used by one pod only":       {plugin.VolumeRestrictions{}, bound, local, "", []string{`{spec: {nodeName: a, volumes: [{name: v, persistentVolumeClaim: {claimName: data}}]}}`}, strings.ReplaceAll("a: X; b: X; c: X", "X", "node(s) unavailable due to PersistentVolumeClaim with ReadWriteOncePod access mode already in-use by another pod")},
		"zone of the volume's label": {plugin.VolumeZone{}, bound, `{metadata: {name: pv1, labels: {topology.kubernetes.io/zone: z2}}}`, "", nil, "a: node(s) had no available volume zone (final); b: node(s) had no available volume zone (final); c: ok"},
	} {
		t.Run(name, func(t *testing.T) {
			cl := cluster(t, c.placed...)
			if c.claim != "" {
				cl.Volumes.Claims["ns/data"] = parse[v1.PersistentVolumeClaim](t, c.claim)
			}
			if c.pv != "" {
				cl.Volumes.PVs["pv1"] = parse[v1.PersistentVolume](t, c.pv)
			}
			mode := storagev1.VolumeBindingWaitForFirstConsumer
			class := &storagev1.StorageClass{Provisioner: c.provisioner, VolumeBindingMode: &mode}
			class.Name = "late"
			cl.Volumes.Classes["late"] = class
			if d := cmp.Diff(c.want, verdicts(cl, c.filter, newPod(t, "new", using))); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

func TestScores(t *testing.T) {
	const halfA = `{metadata: {labels: {app: x}}, spec: {nodeName: a, containers: [{resources: {requests: {cpu: "2", memory: 4Gi}}}]}}`
	const asks = `{metadata: {labels: {app: x}}, spec: {containers: [{image: big, resources: {requests: {cpu: "1", memory: 2Gi}}}]}}`
	one := []schedconfig.ResourceSpec{{Name: "cpu", Weight: 1}, {Name: "memory", Weight: 1}}
	for name, c := range map[string]struct {
		scorer plugin.Scorer
		pod    string
		want   []int64 // of a, b, c
	}{
		"least allocated":    {newFit(t, "LeastAllocated"), asks, []int64{25, 75, 75}},
		"most allocated":     {newFit(t, "MostAllocated"), asks, []int64{75, 25, 25}},
		"balanced":           {plugin.NewNodeResourcesBalancedAllocation(schedconfig.NodeResourcesBalancedAllocationArgs{Resources: one}), asks, []int64{75, 75, 75}},
		"unbalanced":         {plugin.NewNodeResourcesBalancedAllocation(schedconfig.NodeResourcesBalancedAllocationArgs{Resources: one}), `{spec: {containers: [{resources: {requests: {cpu: "2"}}}]}}`, []int64{62, 62, 62}},
		"preferred affinity": {newAffinity(t, nil), `{spec: {affinity: {nodeAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [{weight: 5, preference: {matchExpressions: [{key: disk, operator: Exists}]}}]}}}}`, []int64{100, 0, 0}},
		"prefer apart":       {near(), `{spec: {affinity: {podAntiAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [{weight: 5, podAffinityTerm: {topologyKey: topology.kubernetes.io/zone, labelSelector: {matchLabels: {app: x}}}}]}}}}`, []int64{0, 0, 100}},
		"spread softly":      {newSpread(t), `{metadata: {labels: {app: x}}, spec: {topologySpreadConstraints: [{maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: ScheduleAnyway, labelSelector: {matchLabels: {app: x}}}]}}`, []int64{0, 100, 100}},
		"image":              {plugin.ImageLocality{}, asks, []int64{0, 31, 0}},
		"untainted":          {plugin.TaintToleration{}, asks, []int64{100, 100, 100}},
	} {
		t.Run(name, func(t *testing.T) {
			cl := cluster(t, halfA)
			b := parse[v1.Node](t, nodeB)
			b.Status.Images = []v1.ContainerImage{{Names: []string{"big:latest"}, SizeBytes: 1000 * 1024 * 1024}}
			cl.SetNode(b)
			var nodes []int
			for _, n := range []string{"a", "b", "c"} {
				i, _ := cl.Index(n)
				nodes = append(nodes, i)
			}
			r := c.scorer.Rank(cl, newPod(t, "new", c.pod), nodes)
			if r == nil {
				t.Fatal("no ranking")
			}
			scores := make([]int64, len(nodes))
			for i, n := range nodes {
				scores[i] = r.Score(n)
			}
			if r.Normalize != nil {
				r.Normalize(nodes, scores)
			}
			if d := cmp.Diff(c.want, scores); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}
