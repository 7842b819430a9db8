package client

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"mooring/wire"
)

// Errors of Append, AppendBatch and Layout.
var (
	// ErrFull means that the buffer has no room; try again when rows were
	// acknowledged.
	ErrFull = errors.New("client: the buffer is full")
	// ErrLayoutRejected means that the server takes no rows of this layout, as
	// the EventLayoutRejected said.
	ErrLayoutRejected = errors.New("client: the server rejected the layout")
	// ErrNoLayout means that Layout never gave this number.
	ErrNoLayout = errors.New("client: no such layout")
	// ErrWidth means that a row has not one value for each channel.
	ErrWidth = errors.New("client: not one value for each channel")
	// ErrValue means a value that has no form on the wire.
	ErrValue = errors.New("client: a value of unknown kind or a text of more than 65,535 bytes")
	// ErrTime means a time that milliseconds can't say exactly (±2^53 of them).
	ErrTime = errors.New("client: the time is out of range")
	// ErrTooManyLayouts means that a connection holds no more.
	ErrTooManyLayouts = errors.New("client: more than 16 layouts")
	// ErrRunning means that Run runs already.
	ErrRunning = errors.New("client: Run runs already")
)

// maxLayouts is the number of layouts one connection may declare (PROTOCOL §10).
const maxLayouts = 16

// maxMillis is where milliseconds stop to be exact in a float64.
const maxMillis = 1 << 53

// LayoutID names a layout of a Client; Client.Layout gives it.
type LayoutID uint16

// Client is one device. See the package's text for its goroutines.
type Client struct {
	cfg     Config
	address *url.URL
	bootID  uint32
	started time.Time // base of the monotonic times below

	running atomic.Bool
	wake    chan struct{} // holds at most one: there is something for the writer

	mu        sync.Mutex
	layouts   []layoutState
	buffer    rowBuffer
	send      cursor        // the row to be sent next on this connection
	flight    flight        // frames sent on this connection, not acknowledged
	frameRows int           // Config.FrameRows, or as SetFrameRows says
	since     time.Duration // since when rows wait to be sent, for Linger
	flushTo   uint64        // rows before it don't linger
	window    int           // of the current connection
	empty     chan struct{} // closed when the buffer is next empty; nil: nobody waits
	held      hold          // refusals that are not final
	offset    time.Duration // server's clock minus ours
	hasTime   bool
	spread    time.Duration
	heartbeat time.Duration
	maxFrame  int
	limited   bool // maxFrame is the server's word
	stats     Stats

	commands commandState
}

// layoutState is a layout and what the server thinks of it.
type layoutState struct {
	layout   wire.Layout
	size     int // of its LAYOUT frame, bytes
	rejected bool
}

// New makes a client. It starts nothing: Run does.
func New(cfg Config) (*Client, error) {
	cfg = cfg.withDefaults()
	address, err := cfg.validate()
	if err != nil {
		return nil, err
	}
	c := &Client{
		cfg:       cfg,
		address:   address,
		bootID:    cfg.BootID,
		started:   time.Now(),
		wake:      make(chan struct{}, 1),
		frameRows: cfg.FrameRows,
		spread:    defaultSpread,
		heartbeat: defaultHeartbeat,
		maxFrame:  defaultMaxFrame,
	}
	for c.bootID == 0 { // 0 means absent on the wire
		c.bootID = rand.Uint32() //nolint:gosec // tells boots apart, guards nothing
	}
	return c, nil
}

// BootID is the number under which this client's sequence numbers are known.
func (c *Client) BootID() uint32 { return c.bootID }

// Layout makes a layout known. The name is what SQL users see; empty: the
// device's model. It is declared to the server on every connection before its
// first row there. A LAYOUT frame that is larger than the server's max_frame, or
// than any server's while that is not known, is refused with a *LayoutSizeError.
func (c *Client) Layout(name string, channels []wire.Channel) (LayoutID, error) {
	if len(channels) == 0 || len(channels) > wire.DefaultMaxChannels {
		return 0, fmt.Errorf("client: a layout has 1 to %d channels", wire.DefaultMaxChannels)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.layouts) == maxLayouts {
		return 0, ErrTooManyLayouts
	}
	id := LayoutID(len(c.layouts))
	state := layoutState{layout: wire.Layout{Number: uint32(id), Name: name, Channels: slices.Clone(channels)}}
	state.size = len(wire.NewEncoder().Layout(&state.layout))
	if err := c.tooLarge(&state); err != nil {
		return 0, err
	}
	c.layouts = append(c.layouts, state)
	return id, nil
}

// Append buffers a row and gives its sequence number. The time is cut to whole
// milliseconds, once and for all. Values are copied. Whether they suit their
// channels is the server's to judge: OnReject tells.
func (c *Client) Append(layout LayoutID, at time.Time, values ...wire.Value) (uint64, error) {
	c.mu.Lock()
	seq := c.buffer.next
	waiting, err := c.push(layout, at.UnixMilli(), values)
	frameRows := c.frameRows
	c.mu.Unlock()
	if err != nil {
		return 0, err
	}
	c.wakeFor(waiting, 1, frameRows)
	return seq, nil
}

// AppendBatch buffers rows that belong together and gives the first one's
// sequence number; Row.Seq is ignored, Row.Time is in microseconds and cut to
// whole milliseconds. Either all rows are buffered or none.
func (c *Client) AppendBatch(layout LayoutID, rows []wire.Row) (uint64, error) {
	c.mu.Lock()
	seq, waiting, err := c.pushAll(layout, rows)
	frameRows := c.frameRows
	c.mu.Unlock()
	if err != nil {
		return 0, err
	}
	c.wakeFor(waiting, len(rows), frameRows)
	return seq, nil
}

func (c *Client) pushAll(layout LayoutID, rows []wire.Row) (seq uint64, waiting int, err error) {
	size := 0
	for i := range rows {
		if err := c.check(layout, wholeMillis(rows[i].Time), rows[i].Values); err != nil {
			return 0, 0, err
		}
		size += encodedSize(rows[i].Values)
	}
	if err := c.makeRoom(len(rows), size); err != nil {
		return 0, 0, err
	}
	seq = c.buffer.next
	for i := range rows {
		if waiting, err = c.push(layout, wholeMillis(rows[i].Time), rows[i].Values); err != nil {
			return 0, 0, err
		}
	}
	return seq, waiting, nil
}

// wholeMillis cuts a time in µs towards the past, also before 1970.
func wholeMillis(micros int64) int64 {
	millis := micros / 1000
	if micros%1000 < 0 {
		millis--
	}
	return millis
}

// push appends a row and reports how many rows wait to be sent.
func (c *Client) push(layout LayoutID, millis int64, values []wire.Value) (waiting int, err error) {
	if err := c.check(layout, millis, values); err != nil {
		return 0, err
	}
	size := encodedSize(values)
	if err := c.makeRoom(1, size); err != nil {
		return 0, err
	}
	if c.buffer.next >= wire.MaxSeq-1 {
		return 0, fmt.Errorf("%w: sequence numbers end at 2^53", ErrFull)
	}
	c.buffer.push(layout, millis, values, size)
	c.stats.RowsAppended++
	waiting = int(c.buffer.next - max(c.send.seq, c.buffer.head.seq))
	if waiting == 1 && c.cfg.Linger > 0 {
		c.since = time.Since(c.started)
	}
	return waiting, nil
}

func (c *Client) check(layout LayoutID, millis int64, values []wire.Value) error {
	switch {
	case int(layout) >= len(c.layouts):
		return ErrNoLayout
	case c.layouts[layout].rejected:
		return ErrLayoutRejected
	case len(values) != len(c.layouts[layout].layout.Channels):
		return ErrWidth
	case millis < -maxMillis || millis > maxMillis:
		return ErrTime
	}
	if err := c.tooLarge(&c.layouts[layout]); err != nil {
		return err
	}
	for i := range values {
		if values[i].Kind > wire.ValueFloat32 || len(values[i].Text) > math.MaxUint16 {
			return ErrValue
		}
	}
	return nil
}

// makeRoom sees that rows of this size fit, as Config.WhenFull says.
func (c *Client) makeRoom(rows, size int) error {
	fits := func() bool {
		return c.buffer.rows()+rows <= c.cfg.BufferRows && c.buffer.bytes+size <= c.cfg.BufferBytes
	}
	if fits() {
		return nil
	}
	if c.cfg.WhenFull == RefuseNewest || rows > c.cfg.BufferRows || size > c.cfg.BufferBytes {
		return ErrFull
	}
	for !fits() {
		c.stats.RowsDropped += uint64(c.buffer.drop(c.buffer.head.seq + 1))
	}
	return nil
}

// wakeFor wakes the writer if the rows just appended give it something to do:
// they are the first that wait, or they complete a frame of frameRows.
func (c *Client) wakeFor(waiting, added, frameRows int) {
	if c.cfg.Linger > 0 && waiting > added && waiting < frameRows {
		return
	}
	c.kick()
}

// kick wakes the writer, or sees to it that it doesn't fall asleep.
func (c *Client) kick() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// Flush has every row appended so far sent without lingering.
func (c *Client) Flush() {
	c.mu.Lock()
	c.flushTo = c.buffer.next
	c.mu.Unlock()
	c.kick()
}

// SetFrameRows changes Config.FrameRows, for frames from now on.
func (c *Client) SetFrameRows(rows int) {
	c.mu.Lock()
	c.frameRows = min(max(rows, 1), wire.DefaultMaxRows)
	c.mu.Unlock()
}

// WaitAcked waits until the buffer is empty: every row is settled or given up.
func (c *Client) WaitAcked(ctx context.Context) error {
	c.Flush()
	for {
		c.mu.Lock()
		if c.buffer.rows() == 0 {
			c.mu.Unlock()
			return nil
		}
		if c.empty == nil {
			c.empty = make(chan struct{})
		}
		empty := c.empty
		c.mu.Unlock()
		select {
		case <-empty:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// free drops the rows before seq and tells who waits for an empty buffer.
func (c *Client) free(seq uint64) int {
	rows := c.buffer.drop(seq)
	if c.buffer.rows() == 0 && c.empty != nil {
		close(c.empty)
		c.empty = nil
	}
	return rows
}

// Now is the server's time as far as WELCOME or a NOTICE told it, else the
// host's; known says which.
func (c *Client) Now() (now time.Time, known bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.offset), c.hasTime
}

// Stats gives the counts and the state of this moment.
func (c *Client) Stats() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	stats := c.stats
	stats.Next, stats.Unacked = c.buffer.next, c.buffer.head.seq
	stats.Rows, stats.Bytes = c.buffer.rows(), c.buffer.bytes
	stats.InFlight = c.flight.count
	stats.Commands = c.commands.open
	return stats
}

func (c *Client) event(event Event) {
	if c.cfg.OnEvent != nil {
		c.cfg.OnEvent(event)
	}
}
