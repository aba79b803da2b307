module flagship/hack/compare

go 1.26.0

require (
	github.com/google/go-cmp v0.7.0
	golang.org/x/sync v0.23.0
	sigs.k8s.io/yaml v1.6.0
)

require (
	go.yaml.in/yaml/v2 v2.4.2 // indirect
	golang.org/x/sys v0.49.0 // indirect
)
