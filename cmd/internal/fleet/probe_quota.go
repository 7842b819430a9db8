package fleet

import (
	"context"
	"fmt"
	"time"

	"mooring/cmd/internal/conform"
	"mooring/wire"
)

// What the probe sends to find out a device's quota.
const (
	quotaFrameRows = 10
	// quotaMostRows ends the search: 10 s' worth of a device that may send 2,000 rows a second.
	quotaMostRows = 20_000
	// quotaPays is PROTOCOL §8.6.2's time in which half of what is owed is paid back,
	// and what a busy machine may add.
	quotaPays = 10*time.Second + 2*patience
	// quotaCloses is §8.6.3's, and the same.
	quotaCloses = 30*time.Second + 3*patience
)

// Rules of a server that holds a device to a quota.
var (
	ruleThrottled  = conform.Rule{ID: "throttle", Clause: "§8.6.1, D37", Text: "sends THROTTLE for more than 10 seconds' worth at once, and goes on storing"}
	ruleObedient   = conform.Rule{ID: "throttle-kept", Clause: "§8.6.1", Text: "refuses nothing of a device that keeps to THROTTLE"}
	ruleQuota      = conform.Rule{ID: "quota", Clause: "§8.6.2, D37", Text: "refuses whole frames with QUOTA when about twice as much is owed"}
	rulePaid       = conform.Rule{ID: "quota-paid", Clause: "§8.6.2", Text: "stores again once no more than 10 seconds' worth is owed"}
	ruleQuotaClose = conform.Rule{ID: "quota-close", Clause: "§8.6.3, D37", Text: "closes with 4103 a device that it still refuses after 30 s, and announces it"}
)

// quotaProbe exceeds the quota of a device of its own.
type quotaProbe struct {
	list []conform.Finding
}

func (q *quotaProbe) found(rule conform.Rule, seen verdict) {
	q.list = append(q.list, conform.Finding{Rule: rule, State: seen.state, Detail: seen.detail})
}

// probeQuota does so, on one connection. Other rules than its own are judged by p.
func probeQuota(ctx context.Context, p *probe) []conform.Finding {
	q := &quotaProbe{}
	seen := p.with(ctx, wire.Hello{}, func(l *probeLine) verdict {
		q.judge(ctx, l)
		return kept("")
	})
	for _, rule := range []conform.Rule{ruleThrottled, ruleObedient, ruleQuota, rulePaid, ruleQuotaClose}[len(q.list):] {
		if seen.state == conform.Kept {
			seen = notShown("the rule before it was not kept")
		}
		q.found(rule, seen)
	}
	return q.list
}

// judge adds findings until one is not kept, on which the next would depend.
func (q *quotaProbe) judge(ctx context.Context, l *probeLine) {
	throttle, taken, seen := l.untilThrottled()
	q.found(ruleThrottled, seen)
	if seen.state != conform.Kept {
		return
	}
	gap := time.Duration(throttle.MinGapMillis) * time.Millisecond
	seen = kept("")
	for range 3 {
		sleep(ctx, gap)
		if refused, fault := l.oneFrame(quotaFrameRows); fault.detail != "" {
			seen = fault
		} else if refused != 0 {
			seen = broken("a frame %s after the one before was refused with %s, which is the gap that THROTTLE asked for", gap, refused)
		}
		if seen.detail != "" || ctx.Err() != nil {
			break
		}
	}
	q.found(ruleObedient, seen)
	if seen.state != conform.Kept {
		return
	}

	more := 0
	refused, fault := wire.Code(0), verdict{}
	for refused == 0 && fault.detail == "" && more < 3*taken && ctx.Err() == nil {
		refused, fault = l.oneFrame(quotaFrameRows)
		more += quotaFrameRows
	}
	began := time.Now()
	switch {
	case fault.detail != "":
		q.found(ruleQuota, fault)
		return
	case refused == 0:
		q.found(ruleQuota, broken("THROTTLE came after %d rows; of %d more none was refused", taken, more))
		return
	case refused != wire.CodeQuota:
		q.found(ruleQuota, broken("rows were refused with %s", refused))
		return
	case more < taken/2:
		q.found(ruleQuota, broken("THROTTLE came after %d rows, and after %d more a frame was refused", taken, more))
		return
	}
	q.found(ruleQuota, kept("THROTTLE after %d rows, QUOTA after %d more", taken, more))

	for refused != 0 && fault.detail == "" && time.Since(began) < quotaPays && ctx.Err() == nil {
		sleep(ctx, 500*time.Millisecond)
		refused, fault = l.oneFrame(1)
	}
	if fault.detail != "" || refused != 0 {
		q.found(rulePaid, broken("a row a moment was refused for %s (%s)", time.Since(began).Round(time.Second), fault.detail))
		return
	}
	q.found(rulePaid, kept("after %.1f s", time.Since(began).Seconds()))
	q.found(ruleQuotaClose, l.untilClosed(ctx, taken, began))
}

// untilThrottled sends frames until THROTTLE comes, and gives it and the rows sent.
func (l *probeLine) untilThrottled() (throttle wire.Notice, taken int, seen verdict) {
	for ; taken < quotaMostRows; taken += quotaFrameRows {
		refused, fault := l.oneFrame(quotaFrameRows)
		if fault.detail != "" {
			return throttle, taken, fault
		}
		if refused != 0 {
			return throttle, taken, broken("rows were refused with %s before any THROTTLE, after %d rows", refused, taken)
		}
		for _, notice := range l.notices {
			if notice.Kind == wire.NoticeThrottle {
				good := notice.MinGapMillis > 0 && notice.ForSeconds > 0
				return notice, taken + quotaFrameRows, judged(good, "min_gap_ms is %d, for_s is %d", notice.MinGapMillis, notice.ForSeconds)
			}
		}
	}
	return throttle, taken, notShown("%d rows at once were taken without a word: the device has no quota, or a larger one", taken)
}

// untilClosed exceeds the quota without a pause until the server closes.
func (l *probeLine) untilClosed(ctx context.Context, rows int, began time.Time) verdict {
	for l.code == 0 && time.Since(began) < quotaCloses && ctx.Err() == nil {
		if _, fault := l.oneFrame(min(max(rows/10, 1), 500)); fault.detail != "" {
			break
		}
		sleep(ctx, 100*time.Millisecond)
	}
	after := time.Since(began)
	switch {
	case l.code == 0:
		return broken("it went on for %s without a close", after.Round(time.Second))
	case l.goAway != wire.CloseQuota || l.code != wire.CloseQuota:
		return broken("GOAWAY %d, close %d", l.goAway, l.code)
	}
	return judged(after >= 30*time.Second-time.Second, "it closed %.1f s after the first refusal", after.Seconds())
}

// oneFrame sends a frame of so many rows, waits for its ACK and says with which code
// all of it was refused; 0: it was stored.
func (l *probeLine) oneFrame(rows int) (refused wire.Code, fault verdict) {
	had, seq := len(l.acks), l.sent
	l.rows(rows)
	if !l.settled() {
		return 0, l.unsettled()
	}
	for i := range l.acks[had:] {
		for _, reject := range l.acks[had+i].Rejects {
			if reject.Channel != wire.WholeRow || reject.Seq > seq || reject.Seq+reject.N < seq+uint64(rows) {
				return 0, broken("of rows %d to %d, %s was refused", seq, l.sent-1, fmt.Sprint(reject))
			}
			refused = reject.Code
		}
	}
	return refused, verdict{}
}
