// Package encrypt is encryption at rest: what kube-apiserver stores in etcd is
// encrypted by the providers of an EncryptionConfiguration
// (--encryption-provider-config), in the formats of upstream's server, so that
// either reads what the other wrote.
//
// Data in: the configuration's file, and keys and values of the store. Data
// out: stored values. Reload owns the goroutine that follows the file; a value
// is transformed by the configuration of the moment.
// Source: https://kubernetes.io/docs/tasks/administer-cluster/encrypt-data/
package encrypt
