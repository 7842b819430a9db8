package fleet

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"mooring/client"
	"mooring/wire"
)

// ReplayConfig says what to send as which device.
type ReplayConfig struct {
	// URL of the server's endpoint. Defaults to DefaultURL.
	URL string
	// Device and its Token.
	Device Credential
	// File is the recorded CSV file, Format how to read it.
	File   string
	Format RecordingFormat
	// Layout is the layout's name. Defaults to the file's, without its ending.
	Layout string
	// ShiftToNow moves all times by the same distance, so that the last is now.
	ShiftToNow bool
	// Rows is the largest number of rows in a frame. Defaults to 100.
	Rows int
	// TLS is used for wss. Defaults to the system's roots.
	TLS *tls.Config
	// OnProgress is told, from several goroutines but one at a time, how many of
	// all rows are settled.
	OnProgress func(settled, all uint64)
	// Logger takes what people should know. Defaults to none.
	Logger *slog.Logger
}

// ReplayResult is what became of a recording.
type ReplayResult struct {
	Layout   string            `json:"layout"`
	Channels []string          `json:"channels"`
	Rows     uint64            `json:"rows"`     // sent and settled
	Readings uint64            `json:"readings"` // cells with a number
	Missing  uint64            `json:"missing"`  // cells without one
	Refused  uint64            `json:"refused"`  // rows and values, as acks listed them
	Reasons  map[string]uint64 `json:"refusals,omitempty"`
	First    time.Time         `json:"first"` // times as they were sent
	Last     time.Time         `json:"last"`
	Seconds  float64           `json:"seconds"`
	Frames   uint64            `json:"frames"`
	Bytes    uint64            `json:"bytes"`
}

// ErrRefused means that the server takes nothing from this device, and that
// trying again would not help.
var ErrRefused = errors.New("fleet: the server refuses the device")

// Replay sends a recording and waits until every row is settled.
func Replay(ctx context.Context, cfg ReplayConfig) (ReplayResult, error) {
	begin := time.Now()
	if cfg.URL == "" {
		cfg.URL = DefaultURL
	}
	if cfg.Rows == 0 {
		cfg.Rows = 100
	}
	if cfg.Layout == "" {
		base := filepath.Base(cfg.File)
		cfg.Layout = strings.TrimSuffix(base, filepath.Ext(base))
	}
	cfg.Layout = channelName(cfg.Layout, nil)
	if cfg.OnProgress == nil {
		cfg.OnProgress = func(uint64, uint64) {}
	}
	file, err := openRecording(cfg.File, cfg.Format)
	if err != nil {
		return ReplayResult{}, err
	}
	p := &replay{cfg: cfg, file: file, room: make(chan struct{}, 1)}
	p.result = ReplayResult{
		Layout: cfg.Layout, Channels: file.names, First: file.first, Last: file.last,
		Reasons: make(map[string]uint64),
	}
	if cfg.ShiftToNow {
		p.shift = time.Since(file.last).Truncate(time.Millisecond)
		p.result.First, p.result.Last = file.first.Add(p.shift), file.last.Add(p.shift)
	}
	err = p.send(ctx)
	p.result.Seconds = time.Since(begin).Seconds()
	return p.result, err
}

// replay is a Replay under way.
type replay struct {
	cfg   ReplayConfig
	file  *recording
	shift time.Duration
	room  chan struct{} // rows were settled since the buffer was full
	fail  context.CancelCauseFunc

	mu      sync.Mutex
	settled uint64
	result  ReplayResult
}

func (p *replay) send(ctx context.Context) error {
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	p.fail = fail
	device, err := client.New(client.Config{
		URL: p.cfg.URL, Name: p.cfg.Device.Name, Token: p.cfg.Device.Token, Model: "fleet-replay",
		FrameRows: p.cfg.Rows, BufferRows: 100 * p.cfg.Rows, BufferBytes: 64 << 20,
		TLS: p.cfg.TLS, Logger: p.cfg.Logger,
		OnAck: p.onAck, OnReject: p.onReject, OnEvent: p.onEvent,
	})
	if err != nil {
		return err
	}
	channels := make([]wire.Channel, len(p.file.names))
	for i, name := range p.file.names {
		channels[i].Name = name
	}
	layout, err := device.Layout(p.cfg.Layout, channels)
	if err != nil {
		return err
	}
	running, stop := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = device.Run(running) // ends with running, and says nothing else
	}()
	err = p.file.each(func(at time.Time, values []wire.Value) error {
		return p.append(ctx, device, layout, at.Add(p.shift), values)
	})
	if err == nil {
		err = device.WaitAcked(ctx)
	}
	stop()
	<-ended
	stats := device.Stats()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.result.Rows, p.result.Frames, p.result.Bytes = stats.RowsSettled, stats.FramesSent, stats.BytesSent
	if err == nil && stats.RowsDropped > 0 {
		err = fmt.Errorf("fleet: %d rows were given up: no frame that holds them is taken by the server", stats.RowsDropped)
	}
	return err
}

// append waits until there is room for the row.
func (p *replay) append(ctx context.Context, device *client.Client, layout client.LayoutID, at time.Time, values []wire.Value) error {
	for {
		_, err := device.Append(layout, at, values...)
		if err == nil {
			break
		}
		if !errors.Is(err, client.ErrFull) {
			return err
		}
		select {
		case <-p.room:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range values {
		if values[i].Kind == wire.ValueNil {
			p.result.Missing++
		} else {
			p.result.Readings++
		}
	}
	return nil
}

func (p *replay) onAck(ack client.Ack) {
	p.mu.Lock()
	p.settled += uint64(ack.Rows)
	p.cfg.OnProgress(p.settled, uint64(p.file.rows))
	p.mu.Unlock()
	select {
	case p.room <- struct{}{}:
	default:
	}
}

func (p *replay) onReject(reject wire.Reject) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.result.Refused += reject.N
	where := "whole rows"
	if reject.Channel >= 0 && reject.Channel < len(p.file.names) {
		where = p.file.names[reject.Channel]
	}
	p.result.Reasons[where+": "+reject.Code.String()] += reject.N
}

// onEvent ends the replay when a person must act.
func (p *replay) onEvent(event client.Event) {
	switch {
	case event.Kind == client.EventLayoutRejected:
		p.fail(fmt.Errorf("%w: the layout %q: %s", ErrRefused, p.cfg.Layout, event.Reason))
	case event.Kind != client.EventDisconnected:
	case event.Class == wire.ClassTerminal && event.Status != 0:
		p.fail(fmt.Errorf("%w: HTTP %d; are name and token right?", ErrRefused, event.Status))
	case event.Class == wire.ClassTerminal:
		p.fail(fmt.Errorf("%w: %s", ErrRefused, event.Code))
	case event.Class == wire.ClassFault:
		p.fail(fmt.Errorf("%w: %d %s: %w", ErrRefused, event.Status, event.Code, event.Err))
	case p.cfg.Logger != nil:
		p.cfg.Logger.Warn("not connected", "error", event.Err, "retry_in", event.Wait.Round(time.Millisecond))
	}
}
