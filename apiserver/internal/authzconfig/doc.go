// Package authzconfig makes the ordered list of authorizers: from flags, or from the file of an
// AuthorizationConfiguration (KEP-3221), which is taken over anew when it changes.
//
// Data in: Flags, and the authorizers that live as long as the process (Node, RBAC). Data out: Authorizers, which
// decides as the list that is in force does.
//
// Run looks at the file; it is the package's one goroutine. Everything that is exported may be used by many.
package authzconfig
