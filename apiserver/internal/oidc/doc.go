// Package oidc recognizes the tokens of OpenID Connect providers: those of the
// flags --oidc-*, or those of the file --authentication-config (KEP-3331),
// which is taken over anew when it changes.
//
// Data in: the file, providers' keys and bearer tokens. Data out: identities. It
// runs a goroutine for each provider until its keys are known, and one that
// looks at the file.
package oidc
