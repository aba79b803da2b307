// Package extend serves what the cluster's users add to the API: custom
// resources.
//
// Data in: CustomResourceDefinitions from the watch cache, and the bytes of
// custom resources. Data out: resources of the REST layer, their schemas for
// discovery and OpenAPI, and the definitions' status. A definition costs a few
// hundred bytes until its resource is used: schemas, validators and CEL
// programs are compiled upon the first request that needs them. Run owns all
// goroutines: one that reconciles, and one for each definition whose objects
// are being deleted.
package extend
