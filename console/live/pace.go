package live

import (
	"math/rand/v2"
	"time"
)

// pace is when a viewer's beats are due: at moments of its own, that many came
// together for nothing brings together. Were each beat counted from the end of
// the one before, whoever had to wait for a busy machine would beat with all
// others that had to, from then on; and a thousand at once take the cores from
// those who write (decision 079).
type pace struct {
	every time.Duration
	due   time.Time
}

func newPace(every time.Duration) pace { return pace{every: every} }

// first is how long to wait for the first beat: half the pace to one and a half.
func (p *pace) first(now time.Time) time.Duration {
	wait := p.every/2 + rand.N(p.every) //nolint:gosec // no secret
	p.due = now.Add(wait)
	return wait
}

// next is how long to wait for the next beat, after one that ended now: at least
// half the pace; beats that were missed are left out.
func (p *pace) next(now time.Time) time.Duration {
	p.due = p.due.Add(p.every)
	if late := now.Add(p.every / 2).Sub(p.due); late > 0 {
		p.due = p.due.Add((late + p.every - 1) / p.every * p.every)
	}
	return p.due.Sub(now)
}
