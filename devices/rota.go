package devices

import "time"

// checkShares is the number of shares that the open sessions are looked at in, one
// after the other, within Config.CheckEvery. All at once took PostgreSQL 1.8 s of
// processor time for 100,000 sessions, which rows had to wait for.
const checkShares = 30

// rota says which sessions are asked about, and when. Each belongs to one share, and
// shares take turns at fixed times, so a session is due within one interval
// of its opening and then once an interval, however many open and end meanwhile; take
// is called every checkTick, which comes on top.
// Of those that have ended it keeps the number until their turn. Not safe for
// concurrent use.
type rota struct {
	step   time.Duration // from one turn to the next
	due    time.Time     // of the next turn
	turn   int           // whose that is
	joined int           // sessions so far
	shares [checkShares][]int64
}

func newRota(interval time.Duration, now time.Time) rota {
	step := max(interval/checkShares, 1)
	return rota{step: step, due: now.Add(step)}
}

// join adds a session to the share after the one that the session before joined.
func (r *rota) join(id int64) {
	share := &r.shares[r.joined%checkShares]
	*share = append(*share, id)
	r.joined++
}

// take calls keep for every session whose turn has come by now, at most once, and
// forgets those of which keep says no. What is late is made up for.
func (r *rota) take(now time.Time, keep func(id int64) bool) {
	late := now.Sub(r.due)
	if late < 0 {
		return
	}
	turns := late/r.step + 1
	r.due = r.due.Add(turns * r.step)
	for range min(turns, checkShares) {
		share := &r.shares[r.turn]
		kept := (*share)[:0]
		for _, id := range *share {
			if keep(id) {
				kept = append(kept, id)
			}
		}
		if len(kept) == 0 {
			kept = nil // what a storm has made large
		}
		*share, r.turn = kept, (r.turn+1)%checkShares
	}
}
