package storage

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"mooring/wire"
)

const (
	// rejectQueue is how many refusals may wait for the database; with the raw
	// bytes some 2 MiB at most. When it is full, further ones are counted only.
	rejectQueue = 4096
	rejectBatch = 500
	// rawBytes of a frame are kept: enough to recognise it.
	rawBytes = 256
	// trackedDevices bounds the memory of the limits per device.
	trackedDevices = 100_000
	rejectFlush    = 200 * time.Millisecond
)

// codeNotRecorded marks rows that sum up what the limit left out.
const codeNotRecorded = "NOT_RECORDED"

// rejectRow is a row of mooring.rejects.
type rejectRow struct {
	at      time.Time
	device  int32
	seq     uint64
	n       uint64
	channel string // empty: the whole rows
	code    string
	detail  string
	raw     []byte
}

// allowance is what one device may still have recorded in the current minute.
type allowance struct {
	minute  int64
	used    int
	left    uint64 // out, in that minute
	leftSeq uint64 // the first of them
}

// rejectLog brings refusals to mooring.rejects without ever blocking a session.
type rejectLog struct {
	store     *Store
	perMinute int
	queue     chan rejectRow

	mu      sync.Mutex
	devices map[int32]*allowance
	swept   int64 // minute of the last look for summaries that are due

	waiting []rejectRow // of run and flush alone
}

func newRejectLog(store *Store, perMinute int) *rejectLog {
	return &rejectLog{
		store: store, perMinute: perMinute,
		queue: make(chan rejectRow, rejectQueue), devices: make(map[int32]*allowance),
	}
}

// RecordRejects records refusals of a device in mooring.rejects, for people: in
// words, with the beginning of the frame. layout may be nil. It never blocks
// and keeps none of its arguments. Beyond Config.RejectsPerMinute per device,
// refusals are summed up in one row a minute; beyond what the queue holds they
// are counted in the metrics.
func (s *Store) RecordRejects(device int32, rejects []wire.Reject, layout *wire.Layout, frame []byte) {
	now := time.Now()
	raw := append([]byte(nil), frame[:min(len(frame), rawBytes)]...)
	for _, reject := range rejects {
		if !s.rejects.allow(device, reject.Seq, now) {
			s.metrics.rejectsDropped.WithLabelValues("rate").Inc()
			continue
		}
		row := rejectRow{at: now, device: device, seq: reject.Seq, n: reject.N, code: reject.Code.String(), raw: raw}
		if reject.Channel >= 0 && layout != nil && reject.Channel < len(layout.Channels) {
			row.channel = layout.Channels[reject.Channel].Name
		} else if reject.Channel >= 0 {
			row.channel = "#" + strconv.Itoa(reject.Channel+1)
		}
		row.detail = explain(reject.Code, row.channel, layout)
		s.rejects.enqueue(row)
	}
}

// explain says what a person can do about a refusal.
func explain(code wire.Code, channel string, layout *wire.Layout) string {
	text := explanations[code]
	if text == "" {
		text = "refused with code " + strconv.Itoa(int(code))
	}
	switch {
	case channel != "" && layout != nil:
		return fmt.Sprintf("channel %s of layout %s: %s", channel, layout.Name, text)
	case layout != nil && layout.Name != "":
		return fmt.Sprintf("layout %s: %s", layout.Name, text)
	}
	return text
}

var explanations = map[wire.Code]string{
	wire.CodeMalformed:     "the frame's body is not what PROTOCOL.md says; raw holds its beginning",
	wire.CodeType:          "a value is not of the kind that the layout declares for its channel",
	wire.CodeNotFinite:     "NaN or infinite; send nil for no reading",
	wire.CodeRange:         "a number that float64 can't hold exactly, or out of range",
	wire.CodeString:        "a text that is too long, not UTF-8, or contains U+0000",
	wire.CodeTimeFuture:    "the time is further ahead than the server's --newest allows; look at the device's clock",
	wire.CodeTimePast:      "the time is older than the server's --oldest allows; look at the device's clock",
	wire.CodeUnsupported:   "something that this server does not support",
	wire.CodeName:          "a name with other characters than A-Z a-z 0-9 _ . - /, empty, or too long",
	wire.CodeStorage:       "the database refuses the row",
	wire.CodeUnknownLayout: "the frame refers to a layout that was not declared on this connection",
	wire.CodeQuota:         "more than this device, or this server, may have; see the server's limits",
}

// allow counts a refusal against the device's limit.
func (l *rejectLog) allow(device int32, seq uint64, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	minute := now.Unix() / 60
	if minute != l.swept {
		l.sweep(minute)
	}
	a := l.devices[device]
	if a == nil {
		if len(l.devices) >= trackedDevices {
			return false
		}
		a = &allowance{minute: minute}
		l.devices[device] = a
	}
	if a.used < l.perMinute {
		a.used++
		return true
	}
	if a.left == 0 {
		a.leftSeq = seq
	}
	a.left++
	return false
}

// sweep sums up the minutes that are over.
func (l *rejectLog) sweep(minute int64) {
	l.swept = minute
	for device, a := range l.devices {
		if a.minute == minute {
			continue
		}
		if a.left > 0 {
			l.enqueue(rejectRow{
				at: time.Unix((a.minute+1)*60-1, 0), device: device, seq: a.leftSeq, n: a.left, code: codeNotRecorded,
				detail: fmt.Sprintf("%d further refusals in this minute, not recorded one by one: the limit is %d per device and minute", a.left, l.perMinute),
			})
		}
		delete(l.devices, device)
	}
}

func (l *rejectLog) enqueue(row rejectRow) {
	select {
	case l.queue <- row:
	default:
		l.store.metrics.rejectsDropped.WithLabelValues("queue").Inc()
	}
}

// run writes what is queued until ctx ends.
func (l *rejectLog) run(ctx context.Context) {
	ticker := time.NewTicker(rejectFlush)
	defer ticker.Stop()
	failures := 0
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		l.mu.Lock()
		if minute := time.Now().Unix() / 60; minute != l.swept {
			l.sweep(minute)
		}
		l.mu.Unlock()
		bounded, cancel := context.WithTimeout(ctx, workTimeout)
		err := l.write(bounded)
		cancel()
		if err != nil {
			l.store.report(ctx, "log of rejects", err)
			pause(ctx, backoff(failures+5))
			failures++
			continue
		}
		failures = 0
	}
}

// flush writes what is left at the end, summaries included.
func (l *rejectLog) flush(ctx context.Context) error {
	l.mu.Lock()
	l.sweep(-1)
	l.mu.Unlock()
	return l.write(ctx)
}

// write brings everything that is queued to the database.
func (l *rejectLog) write(ctx context.Context) error {
	for {
		for len(l.waiting) < rejectBatch && len(l.queue) > 0 {
			l.waiting = append(l.waiting, <-l.queue)
		}
		if len(l.waiting) == 0 {
			return nil
		}
		if err := l.insert(ctx, l.waiting); err != nil {
			if classify(err) != failureRow {
				return err // they stay in waiting
			}
			l.insertSingly(ctx)
		}
		l.waiting = l.waiting[:0]
	}
}

// insertSingly saves what can be saved of a batch that Postgres refuses.
func (l *rejectLog) insertSingly(ctx context.Context) {
	for _, row := range l.waiting {
		row.detail = strconv.QuoteToASCII(row.detail)
		if err := l.insert(ctx, []rejectRow{row}); err != nil {
			l.store.metrics.rejectsDropped.WithLabelValues("error").Inc()
			l.store.config.Logger.Warn("a refusal could not be recorded", "device", row.device, "seq", row.seq, "code", row.code, "error", err)
		}
	}
}

func (l *rejectLog) insert(ctx context.Context, rows []rejectRow) error {
	n := len(rows)
	times, devices, seqs, counts := make([]time.Time, n), make([]int32, n), make([]int64, n), make([]int64, n)
	channels, codes, details, raws := make([]string, n), make([]string, n), make([]string, n), make([][]byte, n)
	for i, row := range rows {
		times[i], devices[i], seqs[i], counts[i] = row.at, row.device, int64(row.seq), int64(row.n)
		channels[i], codes[i], details[i], raws[i] = row.channel, row.code, row.detail, row.raw
	}
	_, err := l.store.pool.Exec(ctx, `INSERT INTO mooring.rejects (at, device_id, seq, n, channel, code, detail, raw)
		SELECT at, device_id, seq, n, nullif(channel, ''), code, detail, raw
		FROM unnest($1::timestamptz[], $2::int4[], $3::int8[], $4::int8[], $5::text[], $6::text[], $7::text[], $8::bytea[])
		AS r (at, device_id, seq, n, channel, code, detail, raw)`,
		times, devices, seqs, counts, channels, codes, details, raws)
	if err != nil {
		return fmt.Errorf("record rejects: %w", err)
	}
	l.store.metrics.rejectsRecorded.Add(float64(n))
	return nil
}

// recordRefusal records, before Write reports it, a row that Postgres refuses.
// It waits for the database like Write itself. The device's limit holds for
// these as for all others.
func (w *writer) recordRefusal(ctx context.Context, row encodedRow, refusal *pgconn.PgError) error {
	w.store.metrics.rejected.Inc()
	if !w.store.rejects.allow(row.device(), row.seq(), time.Now()) {
		w.store.metrics.rejectsDropped.WithLabelValues("rate").Inc()
		return nil // summed up in a row of code NOT_RECORDED
	}
	detail := "the database refuses the row: " + refusal.Message + " (SQLSTATE " + refusal.Code + ")"
	if refusal.Detail != "" {
		detail += ": " + refusal.Detail
	}
	detail = strings.ReplaceAll(strings.ToValidUTF8(detail, "\uFFFD"), "\x00", "")
	record := rejectRow{
		at: time.Now(), device: row.device(), seq: row.seq(), n: 1, code: wire.CodeStorage.String(), detail: detail,
		raw: row[:min(len(row), rawBytes)],
	}
	w.logger.Warn("row rejected", "device", row.device(), "seq", row.seq(), "time", time.UnixMicro(row.time()).UTC(), "detail", detail)
	for {
		err := w.insertRefusal(ctx, record)
		if err == nil {
			return nil
		}
		var pgError *pgconn.PgError
		if errors.As(err, &pgError) && classify(err) == failureRow {
			w.store.metrics.rejectsDropped.WithLabelValues("error").Inc()
			w.logger.Warn("a refusal could not be recorded", "device", row.device(), "seq", row.seq(), "error", err)
			return nil
		}
		if err := ended(ctx); err != nil {
			return fmt.Errorf("storage: refusal not recorded: %w", err)
		}
		w.wait(ctx, classify(err), err, &part{count: 1})
	}
}

func (w *writer) insertRefusal(ctx context.Context, record rejectRow) error {
	ctx, cancel := context.WithTimeout(ctx, w.store.config.AttemptTimeout)
	defer cancel()
	err := w.store.rejects.insert(ctx, []rejectRow{record})
	if err != nil && classify(err) == failureRow {
		record.detail = strconv.QuoteToASCII(record.detail)
		err = w.store.rejects.insert(ctx, []rejectRow{record})
	}
	return err
}
