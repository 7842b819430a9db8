package ingest

import (
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"mooring/ingest/door"
	"mooring/wire"
)

// What a device may send beyond its quota: door.Burst's worth at once, without a
// word; the same again, with NOTICE THROTTLE; from then on its frames are refused
// with QUOTA until it has paid back half; and if it goes on for quotaPatience
// without ever paying back all, it is closed (PROTOCOL §8.6).
const (
	quotaPatience = 30 * time.Second
	maxThrottle   = 10 * time.Minute // the longest gap that is asked for
	maxDebtors    = 65_536           // devices whose debts outlive their sessions
)

// quota holds a session to the rates of its device. It is the read goroutine's
// alone, but for the account, which all sessions of the device share: those that
// are being replaced go on for a moment. A frame is judged by what came before it,
// never by its own size: a device that sends an hour's rows in one frame is within
// its rate.
type quota struct {
	rows, bytes door.Rate // 0: no limit
	told        int64     // until when the last THROTTLE holds, by clock
	account     *account
}

// account is what a device owes while it has sessions.
type account struct {
	mu       sync.Mutex
	debt     debt
	sessions int // that share it; under debtors.mu
}

// debt is what a device has sent and not paid for.
type debt struct {
	rows, bytes door.Bucket
	since       int64 // when frames were first refused since all was paid, by clock; 0: not
	refusing    bool  // until half is paid back
}

func (d *debt) ahead(now int64) time.Duration { return max(d.rows.Ahead(now), d.bytes.Ahead(now)) }

// verdict is what becomes of a frame.
type verdict int

const (
	quotaKept verdict = iota
	quotaThrottle
	quotaRefuse
	quotaClose
)

// judge takes a frame of so many rows and bytes that came at now, by clock. With
// quotaThrottle the notice says which gap pays back, and for how long.
func (q *quota) judge(now int64, rows, bytes int) (verdict, wire.Notice) {
	q.account.mu.Lock()
	defer q.account.mu.Unlock()
	debt := &q.account.debt
	owed := debt.ahead(now)
	switch {
	case owed == 0:
		debt.since, debt.refusing = 0, false
	case owed > 2*door.Burst:
		debt.refusing = true
	case owed < door.Burst:
		debt.refusing = false
	}
	if debt.refusing {
		if debt.since == 0 {
			debt.since = now
		}
		if now-debt.since > int64(quotaPatience) {
			return quotaClose, wire.Notice{}
		}
		return quotaRefuse, wire.Notice{}
	}
	before := owed
	if q.rows > 0 {
		debt.rows.Add(now, q.rows, int64(rows))
	}
	if q.bytes > 0 {
		debt.bytes.Add(now, q.bytes, int64(bytes))
	}
	owed = debt.ahead(now)
	if owed <= door.Burst || now < q.told {
		return quotaKept, wire.Notice{}
	}
	// Frames like this one, twice as far apart as the rate asks for, pay back what
	// is owed in twice that time.
	gap := min(2*(owed-before), maxThrottle)
	lasts := min(2*owed, time.Hour)
	q.told = now + int64(lasts)
	return quotaThrottle, wire.Notice{
		Kind:         wire.NoticeThrottle,
		MinGapMillis: int(max(gap.Milliseconds(), 1)),
		ForSeconds:   int(lasts/time.Second) + 1,
	}
}

// withinQuota holds a frame, of which scratch.entry has the rows' numbers, to the
// device's quota; false: it is not to be stored, or the session ends.
func (s *session) withinQuota(scratch *dataScratch, frame []byte) (stored, goOn bool) {
	if s.quota == nil {
		return true, true
	}
	g, e := s.gateway, &scratch.entry
	switch judgement, notice := s.quota.judge(e.received, int(e.rowsIn), len(frame)); judgement {
	case quotaThrottle:
		g.metrics.throttles.Inc()
		s.enqueue(func(encoder *wire.Encoder) []byte { return encoder.Notice(notice) })
		s.recordThrottle(notice)
	case quotaRefuse:
		g.metrics.quotaRefusals.Add(float64(e.rowsIn))
		s.refuse(scratch, frame, wire.Reject{Seq: e.seq, N: e.rowsIn, Channel: wire.WholeRow, Code: wire.CodeQuota}, nil)
		return false, true
	case quotaClose:
		s.shut(closeQuota)
		return false, false
	case quotaKept:
	}
	return true, true
}

// recordThrottle puts a THROTTLE on the session's record at once: a person may be
// asking already why the device is slow. There is one at most while the last one
// holds.
func (s *session) recordThrottle(notice wire.Notice) {
	s.mu.Lock()
	s.throttle = Throttling{
		Times: s.throttle.Times + 1, Last: time.Now(),
		MinGapMillis: notice.MinGapMillis, ForSeconds: notice.ForSeconds,
	}
	progress, open := s.progress(), s.number.Load() != 0 && !s.closed
	s.mu.Unlock()
	if open {
		s.gateway.log.Progress(progress)
	}
}

// debtors knows what devices owe: those that have sessions, and, of as many as
// there is room for, those that have none at the moment. So nobody gets rid of a
// debt by connecting anew.
type debtors struct {
	mu    sync.Mutex
	open  map[int32]*account // bounded by the number of connections
	owing *simplelru.LRU[int32, debt]
}

func newDebtors() *debtors {
	owing, _ := simplelru.NewLRU[int32, debt](maxDebtors, nil) // the size is positive
	return &debtors{open: make(map[int32]*account), owing: owing}
}

// quotaOf is what holds for a session of the device, to be given back with owe;
// nil: no limit.
func (g *Gateway) quotaOf(device *Device) *quota {
	rateOf := func(own int32, standard int) door.Rate {
		switch {
		case own > 0:
			return door.Rate(own)
		case own < 0:
			return 0
		default:
			return door.Rate(standard)
		}
	}
	q := &quota{rows: rateOf(device.RowRate, g.cfg.RowRate), bytes: rateOf(device.ByteRate, g.cfg.ByteRate)}
	if q.rows == 0 && q.bytes == 0 {
		return nil
	}
	d := g.debtors
	d.mu.Lock()
	defer d.mu.Unlock()
	if q.account = d.open[device.ID]; q.account == nil {
		q.account = &account{}
		q.account.debt, _ = d.owing.Get(device.ID)
		d.open[device.ID] = q.account
	}
	q.account.sessions++
	return q
}

// owe ends a session's share of its device's account, and keeps what is owed when
// it was the last.
func (g *Gateway) owe(device int32, q *quota) {
	if q == nil {
		return
	}
	d := g.debtors
	d.mu.Lock()
	defer d.mu.Unlock()
	if q.account.sessions--; q.account.sessions > 0 {
		return
	}
	delete(d.open, device)
	if q.account.debt.ahead(g.clock.now()) > 0 { // nobody else has it any more
		d.owing.Add(device, q.account.debt)
	} else {
		d.owing.Remove(device)
	}
}
