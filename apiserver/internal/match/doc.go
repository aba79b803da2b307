// Package match says whether a request is one that a webhook or an admission
// policy is about.
//
// Data in: rules, selectors, and a request on its way through admission. Data
// out: the resource and kind in which the rule sees it. It owns no goroutine.
package match
