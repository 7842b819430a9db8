package live

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"mooring/devices"
	"mooring/storage"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world stands for registry, database and store: devices named d000, d001, …
// with the channels a and b of layout 1.
type world struct {
	mu       sync.Mutex
	devices  []devices.Watched
	stored   map[int32][2]storage.LatestReading
	watched  map[int32]struct{}
	news     map[int32]*storage.News
	rejects  []storage.DeviceReject
	presence func([]devices.PresenceChange) error
	commands func([]devices.Command)
	// Called while the hub asks; may be nil.
	onWatched, onLatest func()
	// Asked for values, or who fits a filter, it answers when ctx ends.
	hangsLatest, hangsWatched bool
	hung                      chan struct{} // it was asked, and hangs
	latestAsked               int
	broken                    bool // asked who fits a filter, it fails
}

func newWorld(count int) *world {
	w := &world{stored: make(map[int32][2]storage.LatestReading), news: make(map[int32]*storage.News), hung: make(chan struct{}, 16)}
	for i := range count {
		w.devices = append(w.devices, devices.Watched{ID: int32(i), Name: name(i), Model: "m", Gateway: "here", Online: true, Session: 1, Since: time.Unix(1, 0)})
	}
	return w
}

func name(i int) string { return fmt.Sprintf("d%03d", i) }

func (w *world) Watched(ctx context.Context, filter devices.WatchFilter) (list []devices.Watched, total int, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.hangsWatched {
		w.mu.Unlock()
		w.hung <- struct{}{}
		<-ctx.Done()
		w.mu.Lock()
		return nil, 0, ctx.Err()
	}
	if w.broken {
		return nil, 0, errors.New("the database is away")
	}
	for _, d := range w.devices {
		if (filter.Names == nil || slices.Contains(filter.Names, d.Name)) && (filter.Model == "" || d.Model == filter.Model) {
			if total++; len(list) < filter.Limit {
				list = append(list, d)
			}
		}
	}
	if w.onWatched != nil {
		w.onWatched()
	}
	return list, total, nil
}

func (w *world) fail(broken bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.broken = broken
}

func (w *world) Count(context.Context) (all, online int, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.devices), len(w.devices), nil
}

func (w *world) FollowCommands(ctx context.Context, listening func(), changed func([]devices.Command)) error {
	w.mu.Lock()
	w.commands = changed
	w.mu.Unlock()
	listening()
	<-ctx.Done()
	return ctx.Err()
}

func (w *world) FollowPresence(ctx context.Context, synced func(), changed func([]devices.PresenceChange) error) error {
	w.mu.Lock()
	w.presence = changed
	w.mu.Unlock()
	synced()
	<-ctx.Done()
	return ctx.Err()
}

func (w *world) LatestOf(ctx context.Context, ids []int32, yield func(storage.LatestReading) error) error {
	w.mu.Lock()
	var found []storage.LatestReading
	for _, id := range ids {
		if stored, ok := w.stored[id]; ok {
			found = append(found, stored[:]...)
		}
	}
	w.latestAsked++
	hook, hangs := w.onLatest, w.hangsLatest
	w.mu.Unlock()
	if hangs {
		w.hung <- struct{}{}
		<-ctx.Done()
		return ctx.Err()
	}
	if hook != nil {
		hook()
	}
	for _, r := range found {
		if err := yield(r); err != nil {
			return err
		}
	}
	return nil
}

func (w *world) LayoutChannels(context.Context, []int32) (map[int32][]storage.LayoutChannel, error) {
	return map[int32][]storage.LayoutChannel{1: {{Name: "a", Unit: "V"}, {Name: "b"}}}, nil
}

func (w *world) RowsSince(context.Context, []storage.Mark, int, func(storage.News) error) error {
	return nil
}

func (w *world) RejectsAfter(_ context.Context, after int64, limit int) (list []storage.DeviceReject, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range w.rejects {
		if r.ID > after && len(list) < limit {
			list = append(list, r)
		}
	}
	return list, nil
}

func (w *world) LastReject(context.Context) (int64, error) { return 0, nil }

func (w *world) Watch(set map[int32]struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.watched = set
}

func (w *world) Take(yield func(storage.News)) {
	w.mu.Lock()
	news := w.news
	w.news = make(map[int32]*storage.News)
	w.mu.Unlock()
	for _, n := range news {
		yield(*n)
	}
}

// commit stores a row of a device, at a time in seconds.
func (w *world) commit(device int, at int64, a, b float64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	id := int32(device)
	w.stored[id] = [2]storage.LatestReading{
		{Device: id, Metric: "a", Unit: "V", Time: at * 1e6, Value: a}, {Device: id, Metric: "b", Time: at * 1e6, Value: b},
	}
	if _, ok := w.watched[id]; !ok {
		return
	}
	n := w.news[id]
	if n == nil {
		n = &storage.News{Device: id, Layout: 1}
		w.news[id] = n
	}
	n.Rows++
	n.Readings = []storage.Newest{{Known: true, Time: at * 1e6, Seq: 1, Number: a}, {Known: true, Time: at * 1e6, Seq: 1, Number: b}}
}

// stage is a hub and its server.
type stage struct {
	*testing.T
	world    *world
	registry *prometheus.Registry
	hub      *Hub
	server   *httptest.Server
	served   chan error // what became of a request, if somebody wants to know; capacity 1
}

func newStage(t *testing.T, count int, change func(*Config)) *stage {
	t.Helper()
	w := newWorld(count)
	cfg := Config{
		Devices: w, Readings: w, Committed: w, Gateway: "here", Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
		Command: func(c devices.Command) ([]byte, error) { return json.Marshal(map[string]any{"number": c.ID}) },
	}
	registry := prometheus.NewRegistry()
	cfg.Registerer = registry
	if change != nil {
		change(&cfg)
	}
	hub, err := New(cfg)
	require.NoError(t, err)
	hub.Start()
	s := &stage{T: t, world: w, registry: registry, hub: hub, served: make(chan error, 1)}
	s.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var refusal *RefusalError
		err := hub.Serve(w, r, Person{User: user(r)})
		select {
		case s.served <- err:
		default:
		}
		if err != nil && !errors.Is(err, errGone) {
			require.ErrorAs(t, err, &refusal)
			http.Error(w, refusal.Detail, refusal.Status)
		}
	}))
	t.Cleanup(func() {
		require.NoError(t, hub.Stop(context.Background()))
		s.server.Close()
	})
	return s
}

// user is who asks, by a header of the tests.
func user(r *http.Request) int32 {
	number, _ := strconv.Atoi(r.Header.Get("User"))
	return int32(number)
}

// message is what a viewer is told.
type message struct {
	Type     string
	Cursor   string
	Resumed  bool
	What     string
	Count    int
	Reason   string
	Message  string
	Device   string
	Online   any
	Code     string
	Command  map[string]any
	Devices  json.RawMessage
	Readings []told
}

type told struct {
	Device   string
	Rows     int
	Online   bool
	Channels map[string]struct {
		Time  time.Time
		Value *float64
		Unit  string
	}
}

// snapshot are a snapshot's devices.
func (m *message) snapshot(t *testing.T) (list []told) {
	t.Helper()
	require.NoError(t, json.Unmarshal(m.Devices, &list))
	return list
}

// watcher reads Server-Sent Events one by one.
type watcher struct {
	*stage
	body  io.Closer
	lines *bufio.Scanner
	last  string // cursor
}

func (s *stage) watch(query, lastID string) *watcher {
	s.Helper()
	request, err := http.NewRequestWithContext(s.Context(), http.MethodGet, s.server.URL+"?"+query, http.NoBody)
	require.NoError(s, err)
	if lastID != "" {
		request.Header.Set("Last-Event-ID", lastID)
	}
	response, err := s.server.Client().Do(request)
	require.NoError(s, err)
	require.Equal(s, http.StatusOK, response.StatusCode)
	s.Cleanup(func() { _ = response.Body.Close() })
	lines := bufio.NewScanner(response.Body)
	lines.Buffer(nil, 1<<20)
	return &watcher{stage: s, body: response.Body, lines: lines}
}

// next is the next message; ok is false at the end.
func (w *watcher) next() (m message, ok bool) {
	w.Helper()
	for w.lines.Scan() {
		field, value, _ := strings.Cut(w.lines.Text(), ": ")
		switch field {
		case "data":
			require.NoError(w, json.Unmarshal([]byte(value), &m), value)
			ok = true
		case "id":
			require.Equal(w, m.Cursor, value, "the id is the cursor")
			w.last = value
		case "":
			if ok {
				return m, true
			}
		}
	}
	return m, false
}

// until skips messages up to one of a type.
func (w *watcher) until(kind string) message {
	w.Helper()
	for {
		m, ok := w.next()
		require.True(w, ok, "the stream ended before %s", kind)
		if m.Type == kind {
			return m
		}
	}
}

// untilValue reads on until channel a of a device has a value, and gives how
// many rows were told of the device meanwhile.
func (w *watcher) untilValue(device int, value float64) (rows int) {
	w.Helper()
	for {
		for _, r := range w.until("readings").Readings {
			if r.Device != name(device) {
				continue
			}
			rows += r.Rows
			if reading := r.Channels["a"]; reading.Value != nil && *reading.Value == value {
				return rows
			}
		}
	}
}

// dial opens a connection and asks for a stream, and reads nothing.
func (s *stage) dial(query string) {
	s.Helper()
	address, err := url.Parse(s.server.URL)
	require.NoError(s, err)
	var dialer net.Dialer
	conn, err := dialer.DialContext(s.Context(), "tcp", address.Host)
	require.NoError(s, err)
	s.Cleanup(func() { _ = conn.Close() })
	_, err = fmt.Fprintf(conn, "GET /?%s HTTP/1.1\r\nHost: %s\r\n\r\n", query, address.Host)
	require.NoError(s, err)
}

// metric is the sum of a metric's values, of one label value or, if that is "", all.
func (s *stage) metric(name, label string) (sum float64) {
	s.Helper()
	families, err := s.registry.Gather()
	require.NoError(s, err)
	for _, family := range families {
		if family.GetName() != "mooring_live_"+name {
			continue
		}
		for _, m := range family.GetMetric() {
			if label == "" || m.GetLabel()[0].GetValue() == label {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return sum
}
