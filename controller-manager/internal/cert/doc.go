// Package cert runs the controllers of certificates and of bootstrapping: approval, signing and cleaning of
// CertificateSigningRequests, cleaning of PodCertificateRequests, the signatures on the cluster-info ConfigMap, and the end
// of bootstrap tokens.
//
// Data in: signing requests, the CA's files, bootstrap tokens. Data out: approvals, certificates, signatures, deletions.
package cert
