package resource

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"

	"flagship/apiserver/internal/wire"
)

// shownKind is a kind, and how a row of one is written in these tests: cells
// separated by bars, ages as they are shown.
type shownKind struct {
	*Kind
	scheme *runtime.Scheme
}

func shownKinds(t *testing.T) map[string]shownKind {
	t.Helper()
	scheme, err := NewScheme()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]shownKind{}
	for _, k := range Kinds() {
		if k.Strategy.Row != nil {
			out[k.Kind] = shownKind{k, scheme}
		}
	}
	return out
}

// read decodes an object; "5m" after a key is the time that long ago.
func (k shownKind) read(t *testing.T, text string) runtime.Object {
	t.Helper()
	now := time.Now()
	for _, ago := range []string{"5m", "2h", "90s"} {
		d, err := time.ParseDuration(ago)
		if err != nil {
			t.Fatal(err)
		}
		text = strings.ReplaceAll(text, ": "+ago, fmt.Sprintf(": %q", now.Add(-d).UTC().Format("2006-01-02T15:04:05.000000Z")))
	}
	obj, err := k.scheme.New(k.GroupVersionKind)
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.UnmarshalStrict([]byte(text), obj); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return obj
}

// kept is an object with no more than the fields of its row.
func (k shownKind) kept(t *testing.T, obj runtime.Object) runtime.Object {
	t.Helper()
	type protobuf interface {
		Marshal() ([]byte, error)
		Unmarshal(data []byte) error
	}
	raw, err := obj.(protobuf).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	keep, err := wire.CompileKeep(reflect.TypeOf(obj), k.Strategy.RowFields...)
	if err != nil {
		t.Fatal(err)
	}
	if raw, err = wire.AppendKept(nil, raw, keep); err != nil {
		t.Fatal(err)
	}
	out, err := k.scheme.New(k.GroupVersionKind)
	if err != nil {
		t.Fatal(err)
	}
	if err := out.(protobuf).Unmarshal(raw); err != nil {
		t.Fatal(err)
	}
	return out
}

func cellText(cells []any) string {
	var out []string
	for _, c := range cells {
		if at, ok := c.(metav1.Time); ok {
			c = sinceText(at)
		}
		out = append(out, fmt.Sprint(c))
	}
	return strings.Join(out, "|")
}

func TestCells(t *testing.T) {
	kinds := shownKinds(t)
	for _, tc := range []struct{ kind, object, want string }{
		{"Pod", `{metadata: {name: a, creationTimestamp: 5m}, spec: {containers: [{name: c}]}, status: {phase: Pending}}`, "a|0/1|Pending|0|5m|<none>|<none>|<none>|<none>"},
		{
			"Pod", `{metadata: {name: a}, spec: {nodeName: "n", containers: [{name: c}, {name: d}], readinessGates: [{conditionType: x}, {conditionType: "y"}]}, status: {phase: Running, podIPs: [{ip: 10.0.0.1}, {ip: "fd::1"}],
			nominatedNodeName: m, conditions: [{type: x, status: "True"}, {type: "y", status: "False"}],
			containerStatuses: [{name: c, ready: true, restartCount: 3, state: {running: {}}, lastState: {terminated: {exitCode: 1, finishedAt: 5m}}}, {name: d, restartCount: 1, state: {waiting: {reason: CrashLoopBackOff}}, lastState: {terminated: {exitCode: 1, finishedAt: 2h}}}]}}`,
			"a|1/2|CrashLoopBackOff|4 (5m ago)|<unknown>|10.0.0.1|n|m|1/2",
		},
		{"Pod", `{metadata: {name: gated}, status: {phase: Pending, conditions: [{type: PodScheduled, status: "False", reason: SchedulingGated}]}}`, "gated|0/0|SchedulingGated|0|<unknown>|<none>|<none>|<none>|<none>"},
		{"Pod", `{metadata: {name: evicted}, status: {phase: Failed, reason: Evicted}}`, "evicted|0/0|Evicted|0|<unknown>|<none>|<none>|<none>|<none>"},
		{"Pod", `{metadata: {name: gone, deletionTimestamp: 5m}, status: {phase: Running}}`, "gone|0/0|Terminating|0|<unknown>|<none>|<none>|<none>|<none>"},
		{"Pod", `{metadata: {name: gone, deletionTimestamp: 5m}, status: {phase: Succeeded}}`, "gone|0/0|Succeeded|0|<unknown>|<none>|<none>|<none>|<none>"},
		{"Pod", `{metadata: {name: gone, deletionTimestamp: 5m}, status: {phase: Failed, reason: NodeLost}}`, "gone|0/0|Unknown|0|<unknown>|<none>|<none>|<none>|<none>"},
		{"Pod", `{metadata: {name: init}, spec: {initContainers: [{name: i}, {name: j}], containers: [{name: c}]}, status: {phase: Pending, initContainerStatuses: [{name: i, restartCount: 2, state: {terminated: {exitCode: 0}}}, {name: j, restartCount: 1, state: {running: {}}}],
			containerStatuses: [{name: c, restartCount: 7, state: {waiting: {reason: PodInitializing}}}]}}`, "init|0/1|Init:1/2|3|<unknown>|<none>|<none>|<none>|<none>"},
		{"Pod", `{metadata: {name: init}, spec: {initContainers: [{name: i}], containers: [{name: c}]}, status: {phase: Pending, initContainerStatuses: [{name: i, state: {terminated: {exitCode: 2}}}]}}`, "init|0/1|Init:ExitCode:2|0|<unknown>|<none>|<none>|<none>|<none>"},
		{"Pod", `{metadata: {name: init}, spec: {initContainers: [{name: i}], containers: [{name: c}]}, status: {phase: Pending, initContainerStatuses: [{name: i, state: {terminated: {exitCode: 2, signal: 9}}}]}}`, "init|0/1|Init:Signal:9|0|<unknown>|<none>|<none>|<none>|<none>"},
		{"Pod", `{metadata: {name: init}, spec: {initContainers: [{name: i}], containers: [{name: c}]}, status: {phase: Pending, initContainerStatuses: [{name: i, state: {waiting: {reason: ErrImagePull}}}]}}`, "init|0/1|Init:ErrImagePull|0|<unknown>|<none>|<none>|<none>|<none>"},
		{"Pod", `{metadata: {name: sidecar}, spec: {initContainers: [{name: i, restartPolicy: Always}, {name: j}], containers: [{name: c}]}, status: {phase: Pending, initContainerStatuses: [{name: i, ready: true, started: true, restartCount: 2, state: {running: {}}, lastState: {terminated: {exitCode: 1, finishedAt: 2h}}}, {name: j, restartCount: 5, state: {terminated: {exitCode: 0}}, lastState: {terminated: {exitCode: 1, finishedAt: 5m}}}],
			containerStatuses: [{name: c, ready: true, restartCount: 1, state: {running: {}}}]}}`, "sidecar|2/2|Pending|3 (120m ago)|<unknown>|<none>|<none>|<none>|<none>"},
		{"Pod", `{metadata: {name: again}, spec: {initContainers: [{name: i}], containers: [{name: c}]}, status: {phase: Running, conditions: [{type: Initialized, status: "True"}], initContainerStatuses: [{name: i, restartCount: 2, state: {waiting: {}}}],
			containerStatuses: [{name: c, ready: true, restartCount: 1, state: {running: {}}}]}}`, "again|1/1|Init:0/1|1|<unknown>|<none>|<none>|<none>|<none>"},
		{
			"Pod", `{metadata: {name: half}, spec: {containers: [{name: c}, {name: d}]}, status: {phase: Running, conditions: [{type: Ready, status: "True"}], containerStatuses: [{name: c, state: {terminated: {exitCode: 0, reason: Completed}}}, {name: d, ready: true, state: {running: {}}}]}}`,
			"half|1/2|Running|0|<unknown>|<none>|<none>|<none>|<none>",
		},
		{
			"Pod", `{metadata: {name: half}, spec: {containers: [{name: c}, {name: d}]}, status: {phase: Running, containerStatuses: [{name: c, state: {terminated: {exitCode: 0, reason: Completed}}}, {name: d, ready: true, state: {running: {}}}]}}`,
			"half|1/2|NotReady|0|<unknown>|<none>|<none>|<none>|<none>",
		},
		{
			"Pod", `{metadata: {name: half}, spec: {containers: [{name: c}, {name: d}]}, status: {phase: Running, containerStatuses: [{name: c, state: {terminated: {exitCode: 0, reason: Completed}}}, {name: d, state: {terminated: {exitCode: 3}}}]}}`,
			"half|0/2|ExitCode:3|0|<unknown>|<none>|<none>|<none>|<none>",
		},
		{"Pod", `{metadata: {name: killed}, spec: {containers: [{name: c}]}, status: {phase: Failed, containerStatuses: [{name: c, state: {terminated: {exitCode: 137, signal: 9}}}]}}`, "killed|0/1|Signal:9|0|<unknown>|<none>|<none>|<none>|<none>"},

		{"Node", `{metadata: {name: "n"}}`, "n|Unknown|<none>|<unknown>||<none>|<none>|<unknown>|<unknown>|<unknown>"},
		{"Node", `{metadata: {name: "n", labels: {node-role.kubernetes.io/worker: "", kubernetes.io/role: edge, node-role.kubernetes.io/: x}}, spec: {unschedulable: true}, status: {conditions: [{type: Ready, status: "True"}], addresses: [{type: Hostname, address: h}, {type: InternalIP, address: 10.0.0.1}, {type: ExternalIP, address: 1.2.3.4}],
			nodeInfo: {kubeletVersion: v1.37.2, osImage: O, kernelVersion: "6", architecture: amd64, containerRuntimeVersion: containerd://2}}}`, "n|Ready,SchedulingDisabled|edge,worker|<unknown>|v1.37.2|10.0.0.1|1.2.3.4|O|6 (amd64)|containerd://2"},
		{"Node", `{metadata: {name: "n"}, status: {conditions: [{type: Ready, status: Unknown}]}}`, "n|NotReady|<none>|<unknown>||<none>|<none>|<unknown>|<unknown>|<unknown>"},

		{"Service", `{metadata: {name: s}, spec: {type: ClusterIP, clusterIPs: [10.0.0.1, "fd::1"], ports: [{port: 80, protocol: TCP}, {port: 53, nodePort: 30053, protocol: UDP}], selector: {b: c, a: b}}}`, "s|ClusterIP|10.0.0.1|<none>|80/TCP,53:30053/UDP|<unknown>|a=b,b=c"},
		{"Service", `{metadata: {name: s}, spec: {type: LoadBalancer}}`, "s|LoadBalancer|<none>|<pending>|<none>|<unknown>|<none>"},
		{"Service", `{metadata: {name: s}, spec: {type: LoadBalancer, externalIPs: [1.1.1.1]}, status: {loadBalancer: {ingress: [{ip: 9.9.9.9}, {hostname: a.example.com}, {ip: 2.2.2.2}, {ip: 9.9.9.9}]}}}`, "s|LoadBalancer|<none>|2.2.2.2,9.9.9.9,a.example.com,1.1.1.1|<none>|<unknown>|<none>"},
		{"Service", `{metadata: {name: s}, spec: {type: ExternalName, externalName: x.example.com}}`, "s|ExternalName|<none>|x.example.com|<none>|<unknown>|<none>"},
		{"Service", `{metadata: {name: s}}`, "s||<none>|<unknown>|<none>|<unknown>|<none>"},
		{"Endpoints", `{metadata: {name: e}}`, "e|<none>|<unknown>"},
		{"Endpoints", `{metadata: {name: e}, subsets: [{notReadyAddresses: [{ip: 10.0.0.1}], ports: [{port: 1}]}]}`, "e||<unknown>"},
		{"Endpoints", `{metadata: {name: e}, subsets: [{addresses: [{ip: 10.0.0.1}]}, {addresses: [{ip: 10.0.0.2}, {ip: "fd::3"}], ports: [{port: 1}, {port: 2}]}]}`, "e|10.0.0.1,10.0.0.2:1,[fd::3]:1 + 2 more...|<unknown>"},
		{"EndpointSlice", `{metadata: {name: e}, addressType: IPv4, ports: [{name: ""}]}`, "e|IPv4|<unset>|<unset>|<unknown>"},
		{"EndpointSlice", `{metadata: {name: e}, addressType: IPv4, ports: [{port: 1}, {name: x}, {}, {port: 4}], endpoints: [{addresses: [a, b]}, {addresses: [c, d]}]}`, "e|IPv4|1,x,* + 1 more...|a,b,c + 1 more...|<unknown>"},
		{"Namespace", `{metadata: {name: "n"}, status: {phase: Active}}`, "n|Active|<unknown>"},
		{"Secret", `{metadata: {name: s}, type: Opaque, data: {a: "", b: ""}}`, "s|Opaque|2|<unknown>"},
		{"ConfigMap", `{metadata: {name: c}, data: {a: ""}, binaryData: {b: ""}}`, "c|2|<unknown>"},
		{"ServiceAccount", `{metadata: {name: s}, secrets: [{name: x}]}`, "s|<unknown>"},
		{"Event", `{metadata: {name: e}, type: Normal, reason: R, involvedObject: {kind: Pod, name: p, fieldPath: f}, source: {component: c, host: h}, message: " m ", firstTimestamp: 2h, lastTimestamp: 5m, count: 3}`, "5m|Normal|R|pod/p|f|c, h|m|120m|3|e"},
		{"Event", `{metadata: {name: e}, involvedObject: {kind: Pod}, reportingComponent: c, reportingInstance: i, eventTime: 5m}`, "5m|||pod||c, i||5m|1|e"},
		{"Event", `{metadata: {name: e}, eventTime: 2h, series: {count: 9, lastObservedTime: 5m}}`, "5m||||||" + "|120m|9|e"},
		{"ReplicationController", `{metadata: {name: r}, spec: {replicas: 3, selector: {a: b}, template: {spec: {containers: [{name: c, image: i}, {name: d, image: j}]}}}, status: {replicas: 2, readyReplicas: 1}}`, "r|3|2|1|<unknown>|c,d|i,j|a=b"},
		{"PodTemplate", `{metadata: {name: p}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: i}]}}}`, "p|c|i|a=b"},
		{
			"PersistentVolume", `{metadata: {name: v, annotations: {volume.beta.kubernetes.io/storage-class: old}}, spec: {capacity: {storage: 1024Mi}, accessModes: [ReadWriteMany, ReadWriteOnce, ReadWriteOnce], persistentVolumeReclaimPolicy: Retain, claimRef: {namespace: "n", name: c}, storageClassName: new, volumeMode: Block}, status: {phase: Bound, reason: R}}`,
			"v|1Gi|RWO,RWX|Retain|Bound|n/c|old|<unset>|R|<unknown>|Block",
		},
		{"PersistentVolume", `{metadata: {name: v, deletionTimestamp: 5m}, spec: {volumeAttributesClassName: x}}`, "v|0|||Terminating|||x||<unknown>|<unset>"},
		{"PersistentVolumeClaim", `{metadata: {name: c}, spec: {storageClassName: s, resources: {requests: {storage: 1Gi}}}, status: {phase: Pending, accessModes: [ReadWriteOnce]}}`, "c|Pending||||s|<unset>|<unknown>|<unset>"},
		{"PersistentVolumeClaim", `{metadata: {name: c, deletionTimestamp: 5m}, spec: {volumeName: v, volumeMode: Filesystem, volumeAttributesClassName: x}, status: {capacity: {storage: 1Gi}, accessModes: [ReadWriteOncePod, ReadOnlyMany]}}`, "c|Terminating|v|1Gi|ROX,RWOP||x|<unknown>|Filesystem"},
		{"ResourceQuota", `{metadata: {name: q}, status: {hard: {pods: 2, limits.cpu: 4, limitsx: 1, cpu: 3}, used: {pods: 1}}}`, "q|cpu: 0/3, limitsx: 0/1, pods: 1/2|limits.cpu: 0/4|<unknown>"},

		{"Deployment", `{metadata: {name: d}, spec: {replicas: 3, selector: {}}, status: {readyReplicas: 1, updatedReplicas: 2, availableReplicas: 1}}`, "d|1/3|2|1|<unknown>|||"},
		{"Deployment", `{metadata: {name: d}, spec: {selector: {matchExpressions: [{key: a, operator: Foo}]}}}`, "d|0/0|0|0|<unknown>|||<invalid>"},
		{"Deployment", `{metadata: {name: d}, spec: {selector: {matchLabels: {a: b}, matchExpressions: [{key: c, operator: In, values: [x, w]}]}}}`, "d|0/0|0|0|<unknown>|||a=b,c in (w,x)"},
		{"ReplicaSet", `{metadata: {name: r}, spec: {replicas: 3}, status: {replicas: 2, readyReplicas: 1}}`, "r|3|2|1|<unknown>|||<none>"},
		{"DaemonSet", `{metadata: {name: d}, spec: {selector: {matchLabels: {a: b}}, template: {spec: {nodeSelector: {x: "y"}, containers: [{name: c, image: i}]}}}, status: {desiredNumberScheduled: 5, currentNumberScheduled: 4, numberReady: 3, updatedNumberScheduled: 2, numberAvailable: 1}}`, "d|5|4|3|2|1|x=y|<unknown>|c|i|a=b"},
		{"StatefulSet", `{metadata: {name: s}, spec: {replicas: 2}, status: {readyReplicas: 1}}`, "s|1/2|<unknown>||"},
		{"ControllerRevision", `{metadata: {name: c, ownerReferences: [{apiVersion: apps/v1, kind: DaemonSet, name: d, controller: true, uid: u}]}, revision: 4}`, "c|daemonset.apps/d|4|<unknown>"},
		{"ControllerRevision", `{metadata: {name: c, ownerReferences: [{apiVersion: v1, kind: Pod, name: p, controller: true, uid: u}]}, revision: 4}`, "c|pod/p|4|<unknown>"},
		{"ControllerRevision", `{metadata: {name: c}, revision: 1}`, "c|<none>|1|<unknown>"},
		{"Job", `{metadata: {name: j}, spec: {completions: 3}, status: {succeeded: 1, startTime: 90s}}`, "j|Running|1/3|90s|<unknown>|||<none>"},
		{"Job", `{metadata: {name: j}, spec: {parallelism: 4}, status: {succeeded: 1, startTime: 2h, completionTime: 5m, conditions: [{type: Complete, status: "True"}]}}`, "j|Complete|1/1 of 4|115m|<unknown>|||<none>"},
		{"Job", `{metadata: {name: j, deletionTimestamp: 5m}, spec: {parallelism: 1}, status: {conditions: [{type: Suspended, status: "True"}]}}`, "j|Terminating|0/1||<unknown>|||<none>"},
		{"Job", `{metadata: {name: j}, status: {conditions: [{type: Suspended, status: "True"}]}}`, "j|Suspended|0/1||<unknown>|||<none>"},
		{"Job", `{metadata: {name: j}, status: {conditions: [{type: FailureTarget, status: "True"}]}}`, "j|FailureTarget|0/1||<unknown>|||<none>"},
		{"Job", `{metadata: {name: j}, status: {conditions: [{type: SuccessCriteriaMet, status: "True"}, {type: Failed, status: "True"}]}}`, "j|Failed|0/1||<unknown>|||<none>"},
		{"CronJob", `{metadata: {name: c}, spec: {schedule: "* * * * *"}}`, "c|* * * * *|<none>|<unset>|0|<none>|<unknown>|||<none>"},
		{"CronJob", `{metadata: {name: c}, spec: {schedule: x, timeZone: Etc/UTC, suspend: false}, status: {active: [{}], lastScheduleTime: 5m}}`, "c|x|Etc/UTC|False|1|5m|<unknown>|||<none>"},

		{"HorizontalPodAutoscaler", `{metadata: {name: h}, spec: {scaleTargetRef: {kind: Deployment, name: d}, maxReplicas: 5}, status: {currentReplicas: 2}}`, "h|Deployment/d|<none>|<unset>|5|2|<unknown>"},
		{
			"HorizontalPodAutoscaler", `{metadata: {name: h}, spec: {minReplicas: 1, metrics: [{type: Resource, resource: {name: cpu, target: {averageUtilization: 80}}}, {type: External, external: {target: {averageValue: 5}}}, {type: Pods, pods: {target: {averageValue: 1}}}]}, status: {currentMetrics: [{type: Resource, resource: {name: cpu, current: {averageUtilization: 50}}}]}}`,
			"h|/|cpu: 50%/80%, <unknown>/5 (avg) + 1 more...|1|0|0|<unknown>",
		},
		{
			"HorizontalPodAutoscaler", `{metadata: {name: h}, spec: {metrics: [{type: Object, object: {target: {value: 5}}}, {type: ContainerResource, containerResource: {name: memory, target: {averageValue: 1Gi}}}]}, status: {currentMetrics: [{object: {current: {value: 2}}}, {containerResource: {current: {averageValue: 512Mi}}}]}}`,
			"h|/|2/5, memory: 512Mi/1Gi|<unset>|0|0|<unknown>",
		},
		{"HorizontalPodAutoscaler", `{metadata: {name: h}, spec: {metrics: [{type: Resource, resource: {name: cpu, target: {}}}, {type: Foo}]}}`, "h|/|cpu: <unknown>/<auto>, <unknown type>|<unset>|0|0|<unknown>"},

		{"PodDisruptionBudget", `{metadata: {name: p}, spec: {minAvailable: 10%}, status: {disruptionsAllowed: 2}}`, "p|10%|N/A|2|<unknown>"},
		{"Lease", `{metadata: {name: l}, spec: {holderIdentity: h}}`, "l|h|<unknown>"},
		{"Ingress", `{metadata: {name: i}, spec: {rules: [{}]}}`, "i|<none>|*||80|<unknown>"},
		{"Ingress", `{metadata: {name: i}, spec: {ingressClassName: c, tls: [{}], rules: [{host: a}, {}, {host: b}, {host: c}, {host: d}]}, status: {loadBalancer: {ingress: [{ip: 9.9.9.9}, {hostname: 1.example.com}, {ip: 10.0.0.1}]}}}`, "i|c|a,b,c + 2 more...|1.example.com,10.0.0.1,9.9.9.9|80, 443|<unknown>"},
		{"Ingress", `{metadata: {name: i}, spec: {rules: [{host: a}, {host: b}, {host: c}]}}`, "i|<none>|a,b,c||80|<unknown>"},
		{"IngressClass", `{metadata: {name: c, annotations: {ingressclass.kubernetes.io/is-default-class: "true"}}, spec: {controller: x, parameters: {apiGroup: g, kind: K, name: "n"}}}`, "c (default)|x|K.g/n|<unknown>"},
		{"NetworkPolicy", `{metadata: {name: "n"}}`, "n|<none>|<unknown>"},
		{"IPAddress", `{metadata: {name: 10.0.0.1}, spec: {parentRef: {resource: services, namespace: "n", name: s}}}`, "10.0.0.1|services/n/s|<unknown>"},
		{"IPAddress", `{metadata: {name: 10.0.0.1}, spec: {parentRef: {group: G, resource: Things, name: s}}}`, "10.0.0.1|things.g/s|<unknown>"},
		{"ServiceCIDR", `{metadata: {name: c}, spec: {cidrs: [10.0.0.0/8, "fd::/64"]}}`, "c|10.0.0.0/8,fd::/64|<unknown>"},
		{"RoleBinding", `{metadata: {name: b}, roleRef: {kind: ClusterRole, name: r}, subjects: [{kind: User, name: u}, {kind: Group, name: g}, {kind: ServiceAccount, namespace: "n", name: s}, {kind: User, name: v}]}`, "b|ClusterRole/r|<unknown>|u, v|g|n/s"},
		{"ClusterRoleBinding", `{metadata: {name: b}, roleRef: {kind: ClusterRole, name: r}}`, "b|ClusterRole/r|<unknown>|||"},
		{"PriorityClass", `{metadata: {name: p}, value: 7, globalDefault: true, preemptionPolicy: Never}`, "p|7|true|<unknown>|Never"},
		{"RuntimeClass", `{metadata: {name: r}, handler: h}`, "r|h|<unknown>"},
		{"CertificateSigningRequest", `{metadata: {name: c}, spec: {username: u, expirationSeconds: 3600}}`, "c|<unknown>|<none>|u|60m|Pending"},
		{"CertificateSigningRequest", `{metadata: {name: c}, spec: {signerName: s}, status: {certificate: YQ==, conditions: [{type: Approved}, {type: Failed}]}}`, "c|<unknown>|s||<none>|Approved,Failed,Issued"},
		{"ClusterTrustBundle", `{metadata: {name: c}}`, "c|<none>"},
		{"PodCertificateRequest", `{metadata: {name: p}, spec: {podName: p, serviceAccountName: s, nodeName: "n", signerName: x/y, unverifiedUserAnnotations: {a/b: c}}, status: {conditions: [{type: Issued, status: "True"}]}}`, "p|p|s|n|x/y|Issued|a/b=c"},

		{"StorageClass", `{metadata: {name: s, annotations: {storageclass.kubernetes.io/is-default-class: "true"}}, provisioner: p, allowVolumeExpansion: true}`, "s|p|Delete|Immediate|true|<unknown>"},
		{"VolumeAttributesClass", `{metadata: {name: v}, driverName: d}`, "v|d|<unknown>"},
		{"VolumeAttachment", `{metadata: {name: v}, spec: {attacher: a, nodeName: "n", source: {persistentVolumeName: p}}, status: {attached: true}}`, "v|a|p|n|true|<unknown>"},
		{"CSINode", `{metadata: {name: "n"}, spec: {drivers: [{}, {}]}}`, "n|2|<unknown>"},
		{"CSIDriver", `{metadata: {name: d}}`, "d|true|false|false|<unset>|false|<none>|<unknown>"},
		{"CSIDriver", `{metadata: {name: d}, spec: {attachRequired: false, tokenRequests: [{audience: a}, {audience: ""}], volumeLifecycleModes: [Persistent, Ephemeral]}}`, "d|false|false|false|a,|false|Persistent,Ephemeral|<unknown>"},
		{"DeviceClass", `{metadata: {name: d}}`, "d|<unknown>"},
		{"ResourceClaim", `{metadata: {name: c}}`, "c|pending|<unknown>"},
		{"ResourceClaim", `{metadata: {name: c, deletionTimestamp: 5m}, status: {allocation: {}, reservedFor: [{}]}}`, "c|deleted,allocated,reserved|<unknown>"},
		{"ResourceClaim", `{metadata: {name: c, deletionTimestamp: 5m}}`, "c|deleted|<unknown>"},
		{"ResourceClaimTemplate", `{metadata: {name: c}}`, "c|<unknown>"},
		{"ResourceSlice", `{metadata: {name: s}, spec: {driver: d, pool: {name: p}}}`, "s||d|p|<unknown>"},
		{"DeviceTaintRule", `{metadata: {name: r}, spec: {taint: {key: k, value: v, effect: NoExecute, timeAdded: 5m}}}`, "r|k|v|NoExecute|5m|<unknown>"},
		{"StorageVersionMigration", `{metadata: {name: m}, spec: {resource: {group: apps, resource: deployments}}, status: {conditions: [{type: Running, status: "False"}, {type: Succeeded, status: "True"}]}}`, "m|deployments.apps|Succeeded"},

		{"MutatingWebhookConfiguration", `{metadata: {name: w}, webhooks: [{}]}`, "w|1|<unknown>"},
		{"ValidatingWebhookConfiguration", `{metadata: {name: w}}`, "w|0|<unknown>"},
		{"ValidatingAdmissionPolicy", `{metadata: {name: p}, spec: {validations: [{}, {}], paramKind: {apiVersion: v1, kind: ConfigMap}}}`, "p|2|v1/ConfigMap|<unknown>"},
		{"MutatingAdmissionPolicy", `{metadata: {name: p}, spec: {mutations: [{}]}}`, "p|1|<unset>|<unknown>"},
		{"ValidatingAdmissionPolicyBinding", `{metadata: {name: b}, spec: {policyName: p, paramRef: {name: "n"}}}`, "b|p|*/n|<unknown>"},
		{"ValidatingAdmissionPolicyBinding", `{metadata: {name: b}, spec: {policyName: p, paramRef: {name: "n", namespace: m}}}`, "b|p|m/n|<unknown>"},
		{"MutatingAdmissionPolicyBinding", `{metadata: {name: b}, spec: {policyName: p, paramRef: {selector: {matchLabels: {a: b}}}}}`, "b|p|&LabelSelector{MatchLabels:map[string]string{a: b,},MatchExpressions:[]LabelSelectorRequirement{},}|<unknown>"},
		{"MutatingAdmissionPolicyBinding", `{metadata: {name: b}, spec: {policyName: p}}`, "b|p|<unset>|<unknown>"},
		{"FlowSchema", `{metadata: {name: f}, spec: {matchingPrecedence: 5, priorityLevelConfiguration: {name: p}, distinguisherMethod: {type: ByUser}}, status: {conditions: [{type: Dangling, status: "False"}]}}`, "f|p|5|ByUser|<unknown>|False"},
		{"FlowSchema", `{metadata: {name: f}}`, "f||0|<none>|<unknown>|?"},
		{"PriorityLevelConfiguration", `{metadata: {name: p}, spec: {type: Exempt}}`, "p|Exempt|<none>|<none>|<none>|<none>|<unknown>"},
		{"PriorityLevelConfiguration", `{metadata: {name: p}, spec: {type: Limited, limited: {nominalConcurrencyShares: 3, limitResponse: {queuing: {queues: 4, handSize: 5, queueLengthLimit: 6}}}}}`, "p|Limited|3|4|5|6|<unknown>"},
		{
			"CustomResourceDefinition", `{metadata: {name: c, creationTimestamp: "2026-01-02T03:04:05Z"}, spec: {group: g, scope: Cluster, names: {kind: K, shortNames: [a, b]}, versions: [{name: v2, served: true, storage: true}, {name: v1, served: true}, {name: v0}]}, status: {conditions: [{type: Established, status: "True"}]}}`,
			"c|Cluster|v1,v2(storage)|2026-01-02T03:04:05Z|g|K|a,b|true",
		},
		{"APIService", `{metadata: {name: a}, spec: {service: {namespace: "n", name: s}}, status: {conditions: [{type: Available, status: "False", reason: R}]}}`, "a|n/s|False (R)|<unknown>"},
		{"APIService", `{metadata: {name: a}}`, "a|Local|Unknown|<unknown>"},
	} {
		k, ok := kinds[tc.kind]
		if !ok {
			t.Fatalf("%s has no table", tc.kind)
		}
		if got := cellText(k.Strategy.Row(k.read(t, tc.object), true)); got != tc.want {
			t.Errorf("%s %s:\ngot  %s\nwant %s", tc.kind, tc.object, got, tc.want)
		}
		if len(k.Strategy.RowFields) == 0 {
			continue
		}
		if got := cellText(k.Strategy.Row(k.kept(t, k.read(t, tc.object)), true)); got != tc.want {
			t.Errorf("%s %s of its row's fields:\ngot  %s\nwant %s", tc.kind, tc.object, got, tc.want)
		}
	}
}

// TestEveryTable looks at what all have in common, and prints an empty object
// of every kind, as a bookmark is.
func TestEveryTable(t *testing.T) {
	for name, k := range shownKinds(t) {
		columns, cells := k.Strategy.Columns(), k.Strategy.Row(k.read(t, "{}"), true)
		if name == "IPAddress" { // see ipAddressTable
			cells = cells[:2]
		}
		if len(columns) != len(cells) {
			t.Errorf("%s: %d columns, %d cells", name, len(columns), len(cells))
		}
		for _, c := range columns {
			if c.Description == "" && !(name == "RuntimeClass" && c.Name == "Handler") {
				t.Errorf("%s: column %s has no description", name, c.Name)
			}
		}
	}
}

func TestColumns(t *testing.T) {
	got := columns("\nName\n+Attacher:string:name | a b\nN:integer\nAge\n")()
	want := []metav1.TableColumnDefinition{
		{Name: "Name", Type: "string", Format: "name", Description: columnText("ObjectMeta.name")},
		{Name: "Attacher", Type: "string", Format: "name", Description: "a b", Priority: 1},
		{Name: "N", Type: "integer"},
		{Name: "Age", Type: "string", Description: columnText("ObjectMeta.creationTimestamp")},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestListRows(t *testing.T) {
	kinds := shownKinds(t)
	const isDefault = `annotations: {storageclass.kubernetes.io/is-default-class: "true"}`
	for _, tc := range []struct {
		kind    string
		objects []string
		want    []string
	}{
		{"StorageClass", []string{`{metadata: {name: a}}`}, []string{"0 a"}},
		{"StorageClass", []string{
			`{metadata: {name: c, creationTimestamp: "2026-01-02T00:00:00Z", ` + isDefault + `}}`, `{metadata: {name: b, creationTimestamp: "2026-01-02T00:00:00Z", ` + isDefault + `}}`,
			`{metadata: {name: a, creationTimestamp: "2026-01-01T00:00:00Z", ` + isDefault + `}}`,
		}, []string{"0 c", "1 b (default)", "2 a"}},
		{"FlowSchema", []string{
			`{metadata: {name: a}, spec: {matchingPrecedence: 9}}`, `{metadata: {name: c}, spec: {matchingPrecedence: 1}}`, `{metadata: {name: b}, spec: {matchingPrecedence: 1}}`,
		}, []string{"2 b", "1 c", "0 a"}},
	} {
		k := kinds[tc.kind]
		var list []runtime.Object
		for _, text := range tc.objects {
			list = append(list, k.read(t, text))
		}
		var got []string
		for _, r := range k.Strategy.ListRows(list) {
			got = append(got, fmt.Sprint(r.Index, " ", r.Cells[0]))
		}
		if d := cmp.Diff(tc.want, got); d != "" {
			t.Errorf("%s: %s", tc.kind, d)
		}
	}
}

func TestRowConditions(t *testing.T) {
	k := shownKinds(t)["Pod"]
	for phase, want := range map[string]string{"Running": "", "Succeeded": "The pod has completed successfully.", "Failed": "The pod failed."} {
		got := ""
		for _, c := range k.Strategy.RowConditions(k.read(t, "{status: {phase: "+phase+"}}")) {
			got = c.Message
			if c.Type != metav1.RowCompleted || c.Status != metav1.ConditionTrue || c.Reason != phase {
				t.Errorf("%s: %+v", phase, c)
			}
		}
		if got != want {
			t.Errorf("%s: %q, want %q", phase, got, want)
		}
	}
}
