// Package batch runs the controllers of work that ends: Jobs, CronJobs, and the deletion of finished Jobs after a time.
//
// Data in: jobs, cron jobs, pods. Data out: pods created, counted and released from their tracking finalizer; jobs
// created on schedule; status. The *_plan.go files decide; time is an input.
package batch
