package resource

import (
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/robfig/cron/v3"
	batchv1 "k8s.io/api/batch/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func validateCronJob(j *batchv1.CronJob) field.ErrorList {
	// A job's name is the cron job's and the minute: eleven characters more.
	const longest = 63 - 11
	c := &checks{}
	if len(j.Name) > longest {
		c.invalid(root("metadata", "name"), j.Name, fmt.Sprintf("must be no more than %d characters", longest))
	}
	c.cronSpec(&j.Spec, root("spec"), nil)
	return c.list
}

func validateCronJobUpdate(j, old *batchv1.CronJob) field.ErrorList {
	c := &checks{}
	c.cronSpec(&j.Spec, root("spec"), &old.Spec)
	return c.list
}

func (c *checks) cronSpec(s *batchv1.CronJobSpec, p *field.Path, old *batchv1.CronJobSpec) {
	if s.Schedule == "" {
		c.required(p.Child("schedule"), "")
	} else {
		c.schedule(s, p.Child("schedule"), old)
	}
	if s.StartingDeadlineSeconds != nil {
		c.nonNegative(p.Child("startingDeadlineSeconds"), *s.StartingDeadlineSeconds)
	}
	if s.TimeZone != nil && (old == nil || old.TimeZone == nil || *old.TimeZone != *s.TimeZone) {
		c.timeZone(*s.TimeZone, p.Child("timeZone"))
	}
	if s.ConcurrencyPolicy == "" {
		c.required(p.Child("concurrencyPolicy"), "")
	} else {
		oneOfListed(c, p.Child("concurrencyPolicy"), s.ConcurrencyPolicy, batchv1.AllowConcurrent, batchv1.ForbidConcurrent, batchv1.ReplaceConcurrent)
	}
	c.jobSpec(&s.JobTemplate.Spec, p.Child("jobTemplate", "spec"))
	if x := s.JobTemplate.Spec.Selector; x != nil {
		c.invalid(p.Child("jobTemplate", "spec", "selector"), x, "`selector` will be auto-generated")
	}
	if s.JobTemplate.Spec.ManualSelector != nil && *s.JobTemplate.Spec.ManualSelector {
		c.list = append(c.list, field.NotSupported(p.Child("jobTemplate", "spec", "manualSelector"), s.JobTemplate.Spec.ManualSelector, []string{"nil", "false"}))
	}
	if s.SuccessfulJobsHistoryLimit != nil {
		c.nonNegative(p.Child("successfulJobsHistoryLimit"), int64(*s.SuccessfulJobsHistoryLimit))
	}
	if s.FailedJobsHistoryLimit != nil {
		c.nonNegative(p.Child("failedJobsHistoryLimit"), int64(*s.FailedJobsHistoryLimit))
	}
}

func (c *checks) schedule(s *batchv1.CronJobSpec, p *field.Path, old *batchv1.CronJobSpec) {
	if _, err := cron.ParseStandard(s.Schedule); err != nil {
		c.invalid(p, s.Schedule, err.Error())
	}
	zone, kept := strings.Contains(s.Schedule, "TZ"), old != nil && strings.Contains(old.Schedule, "TZ")
	if zone && kept && s.TimeZone != nil {
		c.invalid(p, s.Schedule, "cannot use both timeZone field and TZ or CRON_TZ in schedule")
	} else if zone && !kept {
		c.invalid(p, s.Schedule, "cannot use TZ or CRON_TZ in schedule, use timeZone field instead")
	}
}

// zonePart is a part of a time zone's name, theory.html of the tz database.
var zonePart = regexp.MustCompile(`^[A-Za-z\.\-_0-9+]{1,14}$`)

func (c *checks) timeZone(name string, p *field.Path) {
	if name == "" {
		c.invalid(p, name, "timeZone must be nil or non-empty string")
		return
	}
	for _, part := range strings.Split(name, "/") {
		if part == "." || part == ".." || strings.HasPrefix(part, "-") || !zonePart.MatchString(part) {
			c.invalid(p, name, "unknown time zone "+name)
			return
		}
	}
	if strings.EqualFold(name, "Local") {
		c.invalid(p, name, "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones")
	}
	if _, err := time.LoadLocation(name); err != nil {
		c.invalid(p, name, err.Error())
	}
}
