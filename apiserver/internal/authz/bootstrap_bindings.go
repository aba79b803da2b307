package authz

import rbacv1 "k8s.io/api/rbac/v1"

// defaultClusterRoleBindings bind the default roles.
func defaultClusterRoleBindings() []*rbacv1.ClusterRoleBinding {
	return []*rbacv1.ClusterRoleBinding{
		bindCluster("cluster-admin", "group:system:masters"),
		bindCluster("system:basic-user", "group:system:authenticated"),
		bindCluster("system:cluster-trust-bundle-discovery", "group:system:serviceaccounts"),
		bindCluster("system:discovery", "group:system:authenticated"),
		bindCluster("system:kube-controller-manager", "user:system:kube-controller-manager"),
		bindCluster("system:kube-dns", "sa:kube-system/kube-dns"),
		bindCluster("system:kube-scheduler", "user:system:kube-scheduler"),
		bindCluster("system:monitoring", "group:system:monitoring"),
		bindCluster("system:node", ""),
		bindCluster("system:node-proxier", "user:system:kube-proxy"),
		bindCluster("system:public-info-viewer", "group:system:authenticated group:system:unauthenticated"),
		bindCluster("system:service-account-issuer-discovery", "group:system:serviceaccounts"),
		bindCluster("system:volume-scheduler", "user:system:kube-scheduler"),
	}
}

// controllerRoleBindings bind the controllers' roles to their service accounts.
func controllerRoleBindings() []*rbacv1.ClusterRoleBinding {
	return []*rbacv1.ClusterRoleBinding{
		bindCluster("system:controller:attachdetach-controller", "sa:kube-system/attachdetach-controller"),
		bindCluster("system:controller:certificate-controller", "sa:kube-system/certificate-controller"),
		bindCluster("system:controller:clusterrole-aggregation-controller", "sa:kube-system/clusterrole-aggregation-controller"),
		bindCluster("system:controller:cronjob-controller", "sa:kube-system/cronjob-controller"),
		bindCluster("system:controller:daemon-set-controller", "sa:kube-system/daemon-set-controller"),
		bindCluster("system:controller:deployment-controller", "sa:kube-system/deployment-controller"),
		bindCluster("system:controller:device-taint-eviction-controller", "sa:kube-system/device-taint-eviction-controller"),
		bindCluster("system:controller:disruption-controller", "sa:kube-system/disruption-controller"),
		bindCluster("system:controller:endpoint-controller", "sa:kube-system/endpoint-controller"),
		bindCluster("system:controller:endpointslice-controller", "sa:kube-system/endpointslice-controller"),
		bindCluster("system:controller:endpointslicemirroring-controller", "sa:kube-system/endpointslicemirroring-controller"),
		bindCluster("system:controller:ephemeral-volume-controller", "sa:kube-system/ephemeral-volume-controller"),
		bindCluster("system:controller:expand-controller", "sa:kube-system/expand-controller"),
		bindCluster("system:controller:generic-garbage-collector", "sa:kube-system/generic-garbage-collector"),
		bindCluster("system:controller:horizontal-pod-autoscaler", "sa:kube-system/horizontal-pod-autoscaler"),
		bindCluster("system:controller:job-controller", "sa:kube-system/job-controller"),
		bindCluster("system:controller:kube-apiserver-serving-clustertrustbundle-publisher", "sa:kube-system/kube-apiserver-serving-clustertrustbundle-publisher"),
		bindCluster("system:controller:legacy-service-account-token-cleaner", "sa:kube-system/legacy-service-account-token-cleaner"),
		bindCluster("system:controller:namespace-controller", "sa:kube-system/namespace-controller"),
		bindCluster("system:controller:node-controller", "sa:kube-system/node-controller"),
		bindCluster("system:controller:persistent-volume-binder", "sa:kube-system/persistent-volume-binder"),
		bindCluster("system:controller:pod-garbage-collector", "sa:kube-system/pod-garbage-collector"),
		bindCluster("system:controller:podcertificaterequestcleaner", "sa:kube-system/podcertificaterequestcleaner"),
		bindCluster("system:controller:pv-protection-controller", "sa:kube-system/pv-protection-controller"),
		bindCluster("system:controller:pvc-protection-controller", "sa:kube-system/pvc-protection-controller"),
		bindCluster("system:controller:replicaset-controller", "sa:kube-system/replicaset-controller"),
		bindCluster("system:controller:replication-controller", "sa:kube-system/replication-controller"),
		bindCluster("system:controller:resource-claim-controller", "sa:kube-system/resource-claim-controller"),
		bindCluster("system:controller:resourcequota-controller", "sa:kube-system/resourcequota-controller"),
		bindCluster("system:controller:root-ca-cert-publisher", "sa:kube-system/root-ca-cert-publisher"),
		bindCluster("system:controller:route-controller", "sa:kube-system/route-controller"),
		bindCluster("system:controller:selinux-warning-controller", "sa:kube-system/selinux-warning-controller"),
		bindCluster("system:controller:service-account-controller", "sa:kube-system/service-account-controller"),
		bindCluster("system:controller:service-cidrs-controller", "sa:kube-system/service-cidrs-controller"),
		bindCluster("system:controller:service-controller", "sa:kube-system/service-controller"),
		bindCluster("system:controller:statefulset-controller", "sa:kube-system/statefulset-controller"),
		bindCluster("system:controller:storage-version-migrator-controller", "sa:kube-system/storage-version-migrator-controller"),
		bindCluster("system:controller:ttl-after-finished-controller", "sa:kube-system/ttl-after-finished-controller"),
		bindCluster("system:controller:ttl-controller", "sa:kube-system/ttl-controller"),
		bindCluster("system:controller:validatingadmissionpolicy-status-controller", "sa:kube-system/validatingadmissionpolicy-status-controller"),
		bindCluster("system:controller:volumeattributesclass-protection-controller", "sa:kube-system/volumeattributesclass-protection-controller"),
	}
}

// defaultRoles are the roles of kube-system and kube-public.
func defaultRoles() []*rbacv1.Role {
	return []*rbacv1.Role{
		role("kube-public", "system:controller:bootstrap-signer",
			on("get list watch", "core", "configmaps"),
			named("update", "core", "configmaps", "cluster-info"),
			on("create patch update", "core events.k8s.io", "events"),
		),
		role("kube-system", "extension-apiserver-authentication-reader",
			named("get list watch", "core", "configmaps", "extension-apiserver-authentication"),
		),
		role("kube-system", "system::leader-locking-kube-controller-manager",
			on("create get list update watch", "coordination.k8s.io", "leases"),
			on("create get list update watch", "coordination.k8s.io", "leasecandidates"),
		),
		role("kube-system", "system::leader-locking-kube-scheduler",
			on("create get list update watch", "coordination.k8s.io", "leases"),
			on("create get list update watch", "coordination.k8s.io", "leasecandidates"),
		),
		role("kube-system", "system:controller:bootstrap-signer",
			on("get list watch", "core", "secrets"),
		),
		role("kube-system", "system:controller:cloud-provider",
			on("create get list watch", "core", "configmaps"),
		),
		role("kube-system", "system:controller:token-cleaner",
			on("delete get list watch", "core", "secrets"),
			on("create patch update", "core events.k8s.io", "events"),
		),
	}
}

// defaultRoleBindings bind the roles of kube-system and kube-public.
func defaultRoleBindings() []*rbacv1.RoleBinding {
	return []*rbacv1.RoleBinding{
		bind("kube-public", "system:controller:bootstrap-signer", "Role/system:controller:bootstrap-signer", "sa:kube-system/bootstrap-signer"),
		bind("kube-system", "system::extension-apiserver-authentication-reader", "Role/extension-apiserver-authentication-reader", "user:system:kube-controller-manager user:system:kube-scheduler"),
		bind("kube-system", "system::leader-locking-kube-controller-manager", "Role/system::leader-locking-kube-controller-manager", "user:system:kube-controller-manager sa:kube-system/kube-controller-manager sa:kube-system/leader-election-controller"),
		bind("kube-system", "system::leader-locking-kube-scheduler", "Role/system::leader-locking-kube-scheduler", "user:system:kube-scheduler sa:kube-system/kube-scheduler"),
		bind("kube-system", "system:controller:bootstrap-signer", "Role/system:controller:bootstrap-signer", "sa:kube-system/bootstrap-signer"),
		bind("kube-system", "system:controller:cloud-provider", "Role/system:controller:cloud-provider", "sa:kube-system/cloud-provider"),
		bind("kube-system", "system:controller:token-cleaner", "Role/system:controller:token-cleaner", "sa:kube-system/token-cleaner"),
	}
}
