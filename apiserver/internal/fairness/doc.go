// Package fairness is API priority and fairness, KEP-1040: FlowSchemas say to which priority level a request belongs, and a
// PriorityLevelConfiguration how many seats that level has, how its requests queue, and what it lends to others.
//
// Data in: FlowSchemas and PriorityLevelConfigurations, and each request as it comes. Data out: a ticket by which the
// request is served, or a refusal; the status of the FlowSchemas; metrics and the pages of /debug/api_priority_and_fairness.
//
// match.go finds the schema of a request, work.go estimates its seats, queues.go decides pure of clocks and locks who is next, limits.go
// divides the seats among the levels, controller.go ties them to the objects of the API and filter.go to requests. Its goroutine is that of Run.
package fairness
