// Package authn finds out who sends a request.
//
// Data in: a request (its TLS state and headers) and the objects that tokens refer to, read through Getter. Data out:
// an Identity, or an error that the server answers with 401. A Chain asks its authenticators in order: front-proxy
// headers, client certificates, bearer tokens (static file, service account, bootstrap), anonymous. The first that
// recognizes the credentials decides; one that fails leaves the word to the next, and its error is reported if none
// succeeds.
//
// The package starts no goroutine. Files of certificate authorities are looked at again, at most once in a minute,
// when a request needs them.
package authn
