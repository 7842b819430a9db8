package wire

import "math"

// clock turns t0, dt and step into the times of rows (PROTOCOL §5.5 and §5.6)
// without ever overflowing.
type clock struct {
	millis int64 // of the row before, or of the first row of regular ones
	micros int64 // what a server's time stamp has beside millis
	step   int64 // microseconds; 0: dt moves millis
}

func (c *clock) start(head *DataHead, serverTime int64) {
	*c = clock{millis: head.T0, step: head.Step}
	if head.ServerTime {
		c.millis, c.micros = serverTime/1000, serverTime%1000
	}
}

// add moves on by dt milliseconds; false if that leaves 64 bits.
func (c *clock) add(dt int64) bool {
	if dt > 0 && c.millis > math.MaxInt64-dt || dt < 0 && c.millis < math.MinInt64-dt {
		return false
	}
	c.millis += dt
	return true
}

// time is the row's time in microseconds, and the code that refuses it if it
// lies out of the range (PROTOCOL §5.8). Newest 0 means no limit, and yet a
// time beyond maxMillis is out of any range.
func (c *clock) time(row int, oldest, newest int64) (int64, Code) {
	if c.millis > maxMillis {
		return math.MaxInt64, CodeTimeFuture
	}
	if c.millis < -maxMillis {
		return math.MinInt64, CodeTimePast
	}
	// No overflow: maxMillis and 65,535 steps of a day together stay below
	// 2^63 microseconds.
	micros := c.millis*1000 + c.micros + int64(row)*c.step
	switch {
	case micros < oldest:
		return micros, CodeTimePast
	case newest != 0 && micros > newest:
		return micros, CodeTimeFuture
	}
	return micros, 0
}
