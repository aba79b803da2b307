// Package hook calls webhooks: servers outside that convert, change or judge
// objects.
//
// Data in: where a webhook is and what to tell it. Data out: its answer. It
// keeps a bounded number of connections' settings, one for each certificate
// authority and server name, and owns no goroutine beyond those of the
// connections.
package hook
