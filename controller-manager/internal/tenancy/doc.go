// Package tenancy runs the controllers around namespaces and who acts in them: the namespaces' end, the default service
// account and the root CA in each, tokens of service accounts in Secrets, aggregated cluster roles, and resource quotas.
//
// Data in: namespaces, service accounts, cluster roles, quotas. Data out: the objects that belong into each namespace,
// and the removal of all that is in one that ends.
package tenancy
