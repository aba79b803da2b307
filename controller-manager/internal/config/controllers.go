package config

import (
	"fmt"
	"slices"
	"strings"
)

// Controller is one of upstream's controllers.
type Controller struct {
	// Name is upstream's; Alias is the name of before v1.28, which --controllers takes too.
	Name, Alias string
	// Account is the service account in kube-system that it acts as.
	Account string
	// Off says that '*' does not include it.
	Off bool
}

// Controllers lists every controller that upstream has, in the order of their start.
func Controllers() []Controller {
	return []Controller{
		{"serviceaccount-token-controller", "serviceaccount-token", "", false},
		{"serviceaccount-controller", "serviceaccount", "service-account-controller", false},
		{"root-ca-certificate-publisher-controller", "root-ca-cert-publisher", "root-ca-cert-publisher", false},
		{"namespace-controller", "namespace", "namespace-controller", false},
		{"certificatesigningrequest-signing-controller", "csrsigning", "certificate-controller", false},
		{"certificatesigningrequest-approving-controller", "csrapproving", "certificate-controller", false},
		{"certificatesigningrequest-cleaner-controller", "csrcleaner", "certificate-controller", false},
		{"bootstrap-signer-controller", "bootstrapsigner", "bootstrap-signer", true},
		{"token-cleaner-controller", "tokencleaner", "token-cleaner", true},
		{"clusterrole-aggregation-controller", "clusterrole-aggregation", "clusterrole-aggregation-controller", false},
		{"node-ipam-controller", "nodeipam", "node-controller", false},
		{"node-lifecycle-controller", "nodelifecycle", "node-controller", false},
		{"taint-eviction-controller", "", "node-controller", false},
		{"ttl-controller", "ttl", "ttl-controller", false},
		{"pod-garbage-collector-controller", "podgc", "pod-garbage-collector", false},
		{"endpoints-controller", "endpoint", "endpoint-controller", false},
		{"endpointslice-controller", "endpointslice", "endpointslice-controller", false},
		{"endpointslice-mirroring-controller", "endpointslicemirroring", "endpointslicemirroring-controller", false},
		{"replicationcontroller-controller", "replicationcontroller", "replication-controller", false},
		{"replicaset-controller", "replicaset", "replicaset-controller", false},
		{"deployment-controller", "deployment", "deployment-controller", false},
		{"daemonset-controller", "daemonset", "daemon-set-controller", false},
		{"statefulset-controller", "statefulset", "statefulset-controller", false},
		{"job-controller", "job", "job-controller", false},
		{"cronjob-controller", "cronjob", "cronjob-controller", false},
		{"ttl-after-finished-controller", "ttl-after-finished", "ttl-after-finished-controller", false},
		{"garbage-collector-controller", "garbagecollector", "generic-garbage-collector", false},
		{"resourcequota-controller", "resourcequota", "resourcequota-controller", false},
		{"disruption-controller", "disruption", "disruption-controller", false},
		{"horizontal-pod-autoscaler-controller", "horizontalpodautoscaling", "horizontal-pod-autoscaler", false},
		{"persistentvolume-binder-controller", "persistentvolume-binder", "persistent-volume-binder", false},
		{"persistentvolume-attach-detach-controller", "attachdetach", "attachdetach-controller", false},
		{"persistentvolume-expander-controller", "persistentvolume-expander", "expand-controller", false},
		{"persistentvolumeclaim-protection-controller", "pvc-protection", "pvc-protection-controller", false},
		{"persistentvolume-protection-controller", "pv-protection", "pv-protection-controller", false},
		{"ephemeral-volume-controller", "ephemeral-volume", "ephemeral-volume-controller", false},
		{"volumeattributesclass-protection-controller", "", "volumeattributesclass-protection-controller", false},
		{"service-cidr-controller", "", "service-cidrs-controller", false},
		{"validatingadmissionpolicy-status-controller", "", "validatingadmissionpolicy-status-controller", false},
		{"legacy-serviceaccount-token-cleaner-controller", "", "legacy-service-account-token-cleaner", false},
		{"kube-apiserver-serving-clustertrustbundle-publisher-controller", "", "kube-apiserver-serving-clustertrustbundle-publisher", false},
		{"podcertificaterequest-cleaner-controller", "", "podcertificaterequestcleaner", false},
		{"podgroup-protection-controller", "", "podgroup-protection-controller", false},
		{"device-taint-eviction-controller", "", "device-taint-eviction-controller", false},
		{"resourceclaim-controller", "resource-claim-controller", "resource-claim-controller", false},
		{"resourcepoolstatusrequest-controller", "", "resourcepoolstatusrequest-controller", false},
		{"storage-version-migrator-controller", "", "storage-version-migrator-controller", false},
		{"storageversion-garbage-collector-controller", "storage-version-gc", "storage-version-garbage-collector", false},
		{"selinux-warning-controller", "", "selinux-warning-controller", true},
	}
}

// outside are upstream's names that belong to the cloud controller manager and may stand in --controllers.
var outside = [...]string{"cloud-node-lifecycle-controller", "node-route-controller", "service-lb-controller"}

func validController(entry string) error {
	name := strings.TrimPrefix(entry, "-")
	if name == "*" || slices.Contains(outside[:], name) {
		return nil
	}
	for _, c := range Controllers() {
		if name == c.Name || (c.Alias != "" && name == c.Alias) {
			return nil
		}
	}
	return fmt.Errorf("--controllers: %q is not in the list of known controllers", entry)
}

// Enabled says whether --controllers turns a controller on. A name wins over '*'.
func (c *Config) Enabled(ctl Controller) bool {
	star := false
	for _, e := range c.Controllers {
		switch e {
		case ctl.Name:
			return true
		case "-" + ctl.Name:
			return false
		case "*":
			star = true
		}
		if ctl.Alias != "" && e == ctl.Alias {
			return true
		}
		if ctl.Alias != "" && e == "-"+ctl.Alias {
			return false
		}
	}
	return star && !ctl.Off
}
