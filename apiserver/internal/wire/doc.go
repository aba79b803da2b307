// Package wire turns stored bytes into response bytes without building Go objects.
//
// Data in: the bytes of an object as etcd holds them, either Kubernetes' protobuf (the `k8s\0` magic followed by a
// runtime.Unknown envelope) or JSON. Data out: the same object as JSON or protobuf, alone, in a list or in a watch
// frame, with its resourceVersion spliced in.
//
// A Program is compiled once per Go type from its `protobuf:` and `json:` struct tags and then only read, so it is
// safe for concurrent use. Its output is byte for byte what encoding/json gives for the decoded object; a type that
// renders itself (MarshalJSON) and is not one of the well-known ones is decoded and asked.
//
// The package starts no goroutine and keeps no reference to what it is given, except where a function says that its
// result aliases its input.
package wire
