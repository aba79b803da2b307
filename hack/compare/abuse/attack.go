package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Bounds of an attack that states none.
const (
	mostTime   = 10 * time.Second
	mostMemory = 96 << 20
	// mostWait is what a lease's renewal and a health check may take meanwhile, a fifth of what a kubelet waits for the former.
	mostWait = 2 * time.Second
	// patience ends an attack that gets no answer.
	patience = 40 * time.Second
)

// Answers that are no status code.
const (
	closed = "closed"
	silent = "no answer"
	died   = "died"
	fine   = "ok"
)

// attack is one thing that a server must withstand.
type attack struct {
	group, name string
	// want are the answers that are right, each on its own.
	want []string
	// memory in bytes and time are bounds, 0 for the ones above.
	memory int64
	time   time.Duration
	// stores are the beginnings of keys that it may leave changed.
	stores []string
	run    func(ctx context.Context, t *target) (answers, error)
}

func (a attack) id() string { return a.group + ": " + a.name }

// attacks are all, in the order that they are run in.
func attacks() []attack {
	return slices.Concat(bodies(), formats(), patches(), selectors(), paths(), extensions(), colliding(), credentials(), connections(), frames(), watches())
}

// answers counts what was answered.
type answers map[string]int

func one(s string) answers { return answers{s: 1} }

func (a answers) add(b answers) {
	for s, n := range b {
		a[s] += n
	}
}

func (a answers) String() string {
	var out []string
	for _, s := range slices.Sorted(maps.Keys(a)) {
		if n := a[s]; n > 1 {
			s = fmt.Sprintf("%s ×%d", s, n)
		}
		out = append(out, s)
	}
	return strings.Join(out, ", ")
}

// result is what came of an attack.
type result struct {
	attack  attack
	answers answers
	took    time.Duration
	cpu     time.Duration
	memory  int64
	// lease and health are the worst latencies meanwhile.
	lease, health time.Duration
	changed       []string
	faults        []string
}

func (r result) line(server string) string {
	end := ""
	if len(r.faults) > 0 {
		end = "  FAILED: " + strings.Join(r.faults, "; ")
	}
	return fmt.Sprintf("%-8s %-70s %-16s %6.2f s %6.2f s CPU %5d MiB lease %4d ms%s", server, r.attack.id(), r.answers, r.took.Seconds(), r.cpu.Seconds(), r.memory>>20, r.lease.Milliseconds(), end)
}

// judge says what is wrong with a result.
func (r *result) judge(probes []error) {
	a := r.attack
	fault := func(format string, args ...any) { r.faults = append(r.faults, fmt.Sprintf(format, args...)) }
	for s := range r.answers {
		if !slices.Contains(a.want, s) {
			fault("answered %s, not %s", s, strings.Join(a.want, " or "))
		}
	}
	if len(r.answers) == 0 {
		fault("not answered")
	}
	if most := r.bound(); r.memory > most {
		fault("took %d MiB, more than %d", r.memory>>20, most>>20)
	}
	if most := max(a.time, mostTime); r.took > most {
		fault("took %.1f s, more than %.0f", r.took.Seconds(), most.Seconds())
	}
	if worst := max(r.lease, r.health); worst > mostWait {
		fault("others waited %.1f s, more than %.0f", worst.Seconds(), mostWait.Seconds())
	}
	for _, err := range probes[:min(len(probes), 2)] {
		fault("%v", err)
	}
	if len(r.changed) > 0 {
		fault("stored %s", strings.Join(r.changed[:min(len(r.changed), 3)], " "))
	}
}

func (r *result) bound() int64 {
	if r.attack.memory > 0 {
		return r.attack.memory
	}
	return mostMemory
}

// suffer runs an attack on the target and measures it.
func (t *target) suffer(ctx context.Context, a attack) (result, error) {
	r := result{attack: a}
	before, err := t.keys(ctx)
	if err != nil {
		return r, err
	}
	p := t.probe(ctx)
	start, err := t.mark()
	if err != nil {
		return r, errors.Join(err, p.stop())
	}
	begin := time.Now()
	bounded, cancel := context.WithTimeout(ctx, patience)
	r.answers, err = a.run(bounded, t)
	late := bounded.Err() != nil
	cancel()
	r.took = time.Since(begin)
	end, alive := t.since(start)
	r.cpu, r.memory = end.CPU, end.RSS
	perr := p.stop()
	r.lease, r.health = p.lease, p.health
	if ctx.Err() != nil {
		return r, ctx.Err()
	}
	switch {
	case !alive:
		r.answers = one(died)
	case late:
		r.answers = one(silent)
	case err != nil:
		return r, err
	}
	if !alive {
		if err := t.revive(ctx); err != nil {
			return r, err
		}
	}
	after, err := t.keys(ctx)
	if err != nil {
		return r, err
	}
	r.changed = changed(before, after, a.stores)
	var probes []error
	if perr != nil {
		probes = append(probes, perr)
	}
	r.judge(probes)
	return r, nil
}

// changed are the keys that are not as they were, but for those that the attack and the server itself may change.
func changed(before, after map[string]string, may []string) []string {
	var out []string
	differs := func(key string) {
		if before[key] == after[key] || slices.ContainsFunc(slices.Concat(may, own), func(p string) bool { return strings.HasPrefix(key, p) }) {
			return
		}
		out = append(out, key)
	}
	for key := range after {
		differs(key)
	}
	for key := range before {
		if _, ok := after[key]; !ok {
			differs(key)
		}
	}
	slices.Sort(out)
	return out
}
