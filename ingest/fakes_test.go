package ingest

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"mooring/wire"
)

// fakeRegistry is an Authenticator and a SessionLog in memory.
type fakeRegistry struct {
	mu       sync.Mutex
	devices  map[string]Device // by token; "cert:NAME" for certificates
	disabled map[string]bool
	unknown  map[string]bool // not in memory: good only for those who may ask
	asked    int             // calls that were not answered from memory
	broken   bool            // the database is away
	openGate chan struct{}   // Open waits for it; nil: it does not
	openErr  error

	numbers  atomic.Int64
	opens    []SessionStart
	progress []SessionProgress
	ends     []SessionEnd
	next     map[int32]uint64 // hint per device
}

func newFakeRegistry() *fakeRegistry {
	r := &fakeRegistry{devices: map[string]Device{}, disabled: map[string]bool{}, next: map[int32]uint64{}}
	for i := range 2000 {
		r.devices[fmt.Sprintf("token-%d", i)] = Device{ID: int32(i), Name: fmt.Sprintf("device-%d", i), TokenID: int64(1000 + i)}
	}
	r.devices["cert:device-7"] = Device{ID: 7, Name: "device-7"}
	return r
}

var errAway = errors.New("the database at 10.1.2.3 is away")

func (r *fakeRegistry) Authenticate(_ context.Context, c Credential) (Device, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.broken {
		return Device{}, errAway
	}
	key := c.Token
	if c.Certificate != "" {
		key = "cert:" + c.Certificate
	}
	device, ok := r.devices[key]
	if !ok || r.unknown[key] {
		if c.OnlyKnown {
			return Device{}, errors.New("not in memory")
		}
		r.asked++
	}
	switch {
	case !ok || c.Name != "" && c.Name != device.Name:
		return Device{}, fmt.Errorf("look up: %w", ErrUnauthenticated)
	case r.disabled[key]:
		return Device{}, fmt.Errorf("look up: %w", ErrDisabled)
	}
	return device, nil
}

func (r *fakeRegistry) Open(ctx context.Context, start SessionStart) (SessionInfo, error) {
	r.mu.Lock()
	gate := r.openGate
	r.mu.Unlock()
	if gate != nil {
		select {
		case <-gate:
		case <-ctx.Done():
			return SessionInfo{}, ctx.Err()
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.openErr != nil {
		return SessionInfo{}, r.openErr
	}
	r.opens = append(r.opens, start)
	next, has := r.next[start.Device.ID]
	return SessionInfo{Session: r.numbers.Add(1), Next: next, HasNext: has}, nil
}

func (r *fakeRegistry) Progress(p SessionProgress) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.progress = append(r.progress, p)
}

func (r *fakeRegistry) Close(end SessionEnd) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ends = append(r.ends, end)
}

// lastProgress is the latest of a session.
func (r *fakeRegistry) lastProgress(session int64) SessionProgress {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range slices.Backward(r.progress) {
		if p.Session == session {
			return p
		}
	}
	return SessionProgress{}
}

// endings are the ends recorded so far.
func (r *fakeRegistry) endings() []SessionEnd {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]SessionEnd(nil), r.ends...)
}

// questions is how often more than memory was asked.
func (r *fakeRegistry) questions() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.asked
}

func (r *fakeRegistry) opened() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.opens)
}

// storedRow is a row as fakeStore keeps it.
type storedRow struct {
	device, layout int32
	seq            uint64
	time           int64
	values         []wire.Value
}

type rowKey struct {
	device int32
	seq    uint64
	time   int64
}

// fakeStore is a RowStore in memory.
type fakeStore struct {
	gate   chan struct{} // Write takes one from it before it commits; nil: it does not wait
	failed atomic.Bool   // Write never succeeds
	poison map[uint64]bool
	// healthy is the device whose rows are only counted, 0: none. It sends for as long
	// as attacks take, and what is kept of it would count as left behind by them.
	healthy int32

	mu          sync.Mutex
	seen        uint64 // rows of the healthy device, in order, each once, as it made them
	strange     []storedRow
	rows        map[rowKey]storedRow
	order       []rowKey
	writes      int
	resent      [][]int32 // hints of the writes
	largest     int       // bytes of the largest write
	layouts     []wire.Layout
	refuse      map[string]bool // layouts refused, by name
	layoutFails int             // ResolveLayout fails so many times
	rejects     []wire.Reject
}

func newFakeStore() *fakeStore {
	return &fakeStore{rows: map[rowKey]storedRow{}, refuse: map[string]bool{}}
}

func (f *fakeStore) ResolveLayout(_ context.Context, _ int32, layout *wire.Layout) (int32, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.refuse[layout.Name] {
		return 0, fmt.Errorf("clash: %w", ErrLayoutRefused)
	}
	if f.layoutFails > 0 {
		f.layoutFails--
		return 0, errAway
	}
	f.layouts = append(f.layouts, *layout)
	return int32(len(f.layouts)), nil
}

func (f *fakeStore) AppendRow(dst []byte, device, layout int32, row *wire.Row) []byte {
	start := len(dst)
	dst = append(dst, 0, 0)
	dst = binary.BigEndian.AppendUint32(dst, uint32(device))
	dst = binary.BigEndian.AppendUint32(dst, uint32(layout))
	dst = binary.BigEndian.AppendUint64(dst, row.Seq)
	dst = binary.BigEndian.AppendUint64(dst, uint64(row.Time))
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(row.Values)))
	for _, v := range row.Values {
		dst = append(dst, byte(v.Kind))
		dst = binary.BigEndian.AppendUint64(dst, math.Float64bits(v.Number))
		dst = binary.BigEndian.AppendUint16(dst, uint16(len(v.Text)))
		dst = append(dst, v.Text...)
	}
	// Lengths beyond 16 bits do not occur in these tests' rows.
	binary.BigEndian.PutUint16(dst[start:], uint16(len(dst)-start))
	return dst
}

func (f *fakeStore) Write(ctx context.Context, _ int, rows []byte, count int, resent []int32) (Outcome, error) {
	if f.gate != nil {
		select {
		case <-f.gate:
		case <-ctx.Done():
			return Outcome{}, ctx.Err()
		}
	}
	if f.failed.Load() {
		<-ctx.Done()
		return Outcome{}, ctx.Err()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.writes++
	f.resent = append(f.resent, append([]int32{}, resent...))
	f.largest = max(f.largest, len(rows))
	var outcome Outcome
	for range count {
		row := decodeStored(rows[:binary.BigEndian.Uint16(rows)])
		rows = rows[binary.BigEndian.Uint16(rows):]
		key := rowKey{row.device, row.seq, row.time}
		if f.healthy != 0 && row.device == f.healthy {
			f.see(row)
			continue
		}
		if f.poison[row.seq] {
			outcome.Rejected = append(outcome.Rejected, RejectedRow{Device: row.device, Seq: row.seq, Time: row.time})
			continue
		}
		if _, twice := f.rows[key]; twice {
			if outcome.Duplicates == nil {
				outcome.Duplicates = map[int32]int{}
			}
			outcome.Duplicates[row.device]++
			continue
		}
		f.rows[key] = row
		f.order = append(f.order, key)
	}
	if len(rows) != 0 {
		panic("rows and count do not match")
	}
	return outcome, nil
}

// see counts a row of the healthy device. f.mu is held.
func (f *fakeStore) see(row storedRow) {
	if row.seq != f.seen || row.values[0].Number != float64(f.seen) {
		f.strange = append(f.strange, row)
		return
	}
	f.seen++
}

func decodeStored(b []byte) storedRow {
	row := storedRow{
		device: int32(binary.BigEndian.Uint32(b[2:])),
		layout: int32(binary.BigEndian.Uint32(b[6:])),
		seq:    binary.BigEndian.Uint64(b[10:]),
		time:   int64(binary.BigEndian.Uint64(b[18:])),
	}
	count := binary.BigEndian.Uint16(b[26:])
	b = b[28:]
	for range count {
		v := wire.Value{Kind: wire.ValueKind(b[0]), Number: math.Float64frombits(binary.BigEndian.Uint64(b[1:]))}
		n := binary.BigEndian.Uint16(b[9:])
		if n > 0 {
			v.Text = append([]byte(nil), b[11:11+n]...)
		}
		b = b[11+n:]
		row.values = append(row.values, v)
	}
	return row
}

func (f *fakeStore) RecordRejects(_ int32, rejects []wire.Reject, _ *wire.Layout, _ []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rejects = append(f.rejects, rejects...)
}

// stored are the rows of a device in the order of their commits.
func (f *fakeStore) stored(device int32) []storedRow {
	f.mu.Lock()
	defer f.mu.Unlock()
	var found []storedRow
	for _, key := range f.order {
		if key.device == device {
			found = append(found, f.rows[key])
		}
	}
	return found
}

func (f *fakeStore) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.rows)
}

// fakeConn is a connection that nobody reads from or writes to.
type fakeConn struct{ net.Conn }

func (fakeConn) SetReadDeadline(time.Time) error  { return nil }
func (fakeConn) SetWriteDeadline(time.Time) error { return nil }
