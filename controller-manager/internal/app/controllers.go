package app

import (
	"flagship/controller-manager/internal/config"
	"flagship/controller-manager/internal/loop"
	"flagship/controller-manager/internal/tenancy"
	"flagship/controller-manager/internal/workload"
)

// build makes a controller; a nil controller has nothing to do with the given options.
type build func(d loop.Deps) (*loop.Controller, error)

func plain(f func(d loop.Deps) *loop.Controller) build {
	return func(d loop.Deps) (*loop.Controller, error) { return f(d), nil }
}

func sized(n int32, f func(workers int, d loop.Deps) *loop.Controller) build {
	return func(d loop.Deps) (*loop.Controller, error) { return f(int(n), d), nil }
}

// builders are the controllers that this version has, by name.
func builders(cfg *config.Config) map[string]build {
	w := &cfg.Workers
	return map[string]build{
		"serviceaccount-controller":                plain(tenancy.NewServiceAccount),
		"root-ca-certificate-publisher-controller": func(d loop.Deps) (*loop.Controller, error) { return tenancy.NewRootCA(cfg.RootCAFile, d) },
		"clusterrole-aggregation-controller":       plain(tenancy.NewClusterRoleAggregation),
		"deployment-controller":                    sized(w.Deployment, workload.NewDeployment),
		"replicaset-controller":                    sized(w.ReplicaSet, workload.NewReplicaSet),
		"replicationcontroller-controller":         sized(w.ReplicationController, workload.NewReplicationController),
	}
}
