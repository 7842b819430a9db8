package door

import "time"

// Rate is so many a second, 1 to 1,000,000,000. 0: no limit.
type Rate int64

// Burst is how much may be taken at once, as time's worth of a Rate: who took
// nothing for that long, or for ever, may take that much.
const Burst = 10 * time.Second

// price is the time that n cost.
func (r Rate) price(n int64) int64 { return n * int64(time.Second) / int64(r) }

// Bucket counts what is taken against a Rate (the generic cell rate algorithm of
// ITU-T I.371): it is the time, in nanoseconds by the caller's clock, at which
// everything that was taken is paid for. The zero Bucket has taken nothing.
type Bucket int64

// Take takes n, or tells how long to wait if Burst is used up.
func (b *Bucket) Take(now int64, rate Rate, n int64) (wait time.Duration, ok bool) {
	if rate == 0 {
		return 0, true
	}
	if over := b.Ahead(now) + time.Duration(rate.price(n)) - Burst; over > 0 {
		return over, false
	}
	b.Add(now, rate, n)
	return 0, true
}

// Ahead is the time after which all that was taken is paid for.
func (b *Bucket) Ahead(now int64) time.Duration { return time.Duration(max(int64(*b)-now, 0)) }

// Add takes n whether or not there is room.
func (b *Bucket) Add(now int64, rate Rate, n int64) {
	*b = Bucket(max(int64(*b), now) + rate.price(n))
}
