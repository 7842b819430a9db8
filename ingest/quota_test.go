package ingest

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mooring/ingest/door"
	"mooring/wire"
)

const second = int64(time.Second)

// A device at its rate hears nothing, for ever, also with one large frame an hour.
func TestQuotaOfAnHonestDevice(t *testing.T) {
	t.Parallel()
	q := &quota{rows: 10, bytes: 1000, account: &account{}}
	for at := second; at < 10_000*second; at += second {
		v, _ := q.judge(at, 10, 1000)
		require.Equal(t, quotaKept, v)
	}
	q = &quota{rows: 1, account: &account{}}
	for hour := int64(1); hour < 10; hour++ {
		v, _ := q.judge(hour*3601*second, 3600, 50_000)
		require.NotEqual(t, quotaRefuse, v)
	}
}

// Beyond its rate: first nothing, then it is told, then refused, then closed.
func TestQuotaStages(t *testing.T) {
	t.Parallel()
	q := &quota{rows: 10, account: &account{}}
	var order []verdict
	last := verdict(-1)
	for at := second; at < 100*second; at += second / 10 { // 50 rows a second
		v, notice := q.judge(at, 5, 100)
		if v != last && (v != quotaKept || len(order) == 0) {
			order = append(order, v)
			if v == quotaThrottle {
				require.Equal(t, wire.NoticeThrottle, notice.Kind)
				require.Equal(t, 1000, notice.MinGapMillis, "twice what the rate asks for")
				require.Positive(t, notice.ForSeconds)
			}
		}
		last = v
		if v == quotaClose {
			break
		}
	}
	require.Equal(t, quotaKept, order[0])
	require.Equal(t, quotaThrottle, order[1])
	require.Equal(t, quotaRefuse, order[2])
	require.Equal(t, quotaClose, order[len(order)-1])
}

// A device that does what THROTTLE says gets out of debt and is never refused.
func TestQuotaOfADeviceThatListens(t *testing.T) {
	t.Parallel()
	q := &quota{rows: 10, account: &account{}}
	gap, until := second/10, int64(0)
	for at := second; at < 1000*second; {
		v, notice := q.judge(at, 5, 100)
		require.NotEqual(t, quotaRefuse, v)
		if v == quotaThrottle {
			gap, until = int64(notice.MinGapMillis)*int64(time.Millisecond), at+int64(notice.ForSeconds)*second
		}
		if at > until {
			gap = second / 10
		}
		at += gap
	}
}

func TestQuotaStopsRefusingWhenPaid(t *testing.T) {
	t.Parallel()
	q := &quota{bytes: 100, account: &account{}}
	at := second
	v := quotaKept
	for ; v != quotaRefuse; at += second / 100 {
		v, _ = q.judge(at, 1, 100)
	}
	paid := at + int64(2*door.Burst) + 2*second
	v, _ = q.judge(paid, 1, 100)
	require.Equal(t, quotaKept, v)
	require.Zero(t, q.account.debt.since)
}

func TestQuotaOverASocket(t *testing.T) {
	t.Parallel()
	cfg := quick()
	cfg.RowRate = 10
	sv := serve(t, cfg, newFakeStore())
	d := sv.join(t, 1)
	seq := uint64(0)
	send := func(rows int) {
		d.data(seq, rows)
		seq += uint64(rows)
	}
	send(100) // ten seconds' worth
	d.ackUpTo(100)
	send(100)
	notice := d.notice()
	require.Equal(t, wire.NoticeThrottle, notice.Kind)
	eventually(t, func() bool { return sv.registry.lastProgress(1).Throttle.Times == 1 }, "on record while it lasts")
	record := sv.registry.lastProgress(1).Throttle
	require.Equal(t, notice.MinGapMillis, record.MinGapMillis)
	require.Equal(t, notice.ForSeconds, record.ForSeconds)
	require.WithinDuration(t, time.Now(), record.Last, time.Minute)
	d.ackUpTo(200)
	send(1000) // so much that no pause of this test's pays it back
	d.ackUpTo(1200)
	send(100)
	ack := d.ackUpTo(1300)
	require.Equal(t, []wire.Reject{{Seq: 1200, N: 100, Channel: wire.WholeRow, Code: wire.CodeQuota}}, ack.Rejects)
	require.Len(t, sv.store.stored(1), 1200)

	// Coming back does not help: the debt is the device's.
	d.conn.Close()
	eventually(t, func() bool { return sv.gateway.Stats().Connections == 0 }, "gone")
	eventually(t, func() bool { return len(sv.registry.endings()) == 1 }, "recorded")
	require.Equal(t, uint64(1), sv.registry.endings()[0].Throttle.Times, "refusals are no further notices")
	d = sv.join(t, 1)
	d.data(2000, 100)
	ack = d.ackUpTo(2100)
	require.Equal(t, wire.CodeQuota, ack.Rejects[0].Code)
}

func TestQuotaClosesInTheEnd(t *testing.T) {
	t.Parallel()
	cfg := quick()
	cfg.RowRate = 10
	sv := serve(t, cfg, newFakeStore())
	now := sv.gateway.clock.now()
	owed := debt{since: now - int64(quotaPatience) - second}
	owed.rows.Add(now, 10, 10_000)
	sv.gateway.debtors.owing.Add(1, owed)
	d := sv.join(t, 1)
	d.data(0, 1)
	d.closesWith(wire.CloseQuota, true)
	eventually(t, func() bool { return len(sv.registry.endings()) == 1 }, "recorded")
	require.Equal(t, wire.CloseQuota, sv.registry.endings()[0].Code)

	// The device's own rates count before the server's.
	sv.registry.mu.Lock()
	unlimited := sv.registry.devices["token-2"]
	unlimited.RowRate = -1
	sv.registry.devices["token-2"] = unlimited
	sv.registry.mu.Unlock()
	free := sv.join(t, 2)
	for n := range uint64(20) {
		free.data(n*100, 100)
		free.ackUpTo(n*100 + 100)
	}
	require.Len(t, sv.store.stored(2), 2000)
}

// A connection beside the first one, which it replaces, is no second quota: neither
// before the first has ended, nor afterwards. Nor is one that ends while another is
// open the end of what is owed.
func TestQuotaIsTheDevicesOverAllItsConnections(t *testing.T) {
	t.Parallel()
	cfg := quick()
	cfg.RowRate = 10
	store := newFakeStore()
	sv := serve(t, cfg, store)
	d := sv.join(t, 1)
	seq := uint64(0)
	for n, rows := range []int{100, 100, 1000} { // 2 minutes' worth
		d.data(seq, rows)
		if n == 1 {
			require.Equal(t, wire.NoticeThrottle, d.notice().Kind)
		}
		seq += uint64(rows)
		d.ackUpTo(seq)
	}
	for n := range uint64(3) {
		next := sv.join(t, 1) // the one before is still open
		next.data(2000*(n+1), 100)
		ack := next.ackUpTo(2000*(n+1) + 100)
		require.NotEmpty(t, ack.Rejects, "connection %d", n)
		require.Equal(t, wire.CodeQuota, ack.Rejects[0].Code)
		d.closesWith(wire.CloseReplaced, true)
		d = next
	}
	require.Len(t, store.stored(1), 1200)
	d.conn.Close()
	eventually(t, func() bool { return len(sv.registry.endings()) == 4 }, "recorded")
	eventually(t, func() bool { return sv.gateway.Stats().Connections == 0 }, "and gone, with what is owed")
	sv.gateway.debtors.mu.Lock()
	defer sv.gateway.debtors.mu.Unlock()
	require.Empty(t, sv.gateway.debtors.open)
	require.True(t, sv.gateway.debtors.owing.Contains(1))
}

// A frame that is refused for its body counts as much as any other: what limits
// bytes must not have a way around it.
func TestQuotaCountsFramesThatAreRefused(t *testing.T) {
	t.Parallel()
	cfg := quick()
	cfg.ByteRate = 1
	sv := serve(t, cfg, newFakeStore())
	d := sv.join(t, 1)
	broken := func(seq uint64) []byte { // step is a string
		frame := []byte{0x96, 3, 0xcd, byte(seq >> 8), byte(seq), 1, 0xc0, 0, 0xd9, 200}
		return append(frame, make([]byte, 200)...)
	}
	d.send(broken(0)) // 3 minutes' worth
	require.Equal(t, wire.NoticeThrottle, d.notice().Kind)
	require.Equal(t, wire.CodeMalformed, d.ackUpTo(1).Rejects[0].Code)
	d.send(broken(1))
	require.Equal(t, wire.CodeQuota, d.ackUpTo(2).Rejects[0].Code)
}
