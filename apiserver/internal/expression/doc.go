// Package expression compiles and evaluates the CEL expressions of webhooks
// and admission policies.
//
// Data in: expressions, and a request on its way through admission. Data out:
// values, or why there is none, within a budget. The CEL environment is built
// when the first expression is compiled; a cluster without any never pays for
// it. It owns no goroutine.
package expression
