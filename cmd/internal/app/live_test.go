package app

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mooring/client"
	"mooring/devices"
	"mooring/internal/pgtest"
	"mooring/wire"
)

// looking is a viewer over Server-Sent Events, and all it was told.
type looking struct {
	t      *testing.T
	close  context.CancelFunc
	mu     sync.Mutex
	told   []map[string]any
	lastID string
	done   chan struct{}
}

// look begins to look on, with a query and perhaps a Last-Event-ID.
func look(t *testing.T, a *App, token, query, lastID string) *looking {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+a.Addr()+"/v1/live?"+query, http.NoBody)
	require.NoError(t, err)
	request.Header.Set("Authorization", "Bearer "+token)
	if lastID != "" {
		request.Header.Set("Last-Event-ID", lastID)
	}
	response, err := http.DefaultClient.Do(request) //nolint:bodyclose // by the goroutine
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, response.StatusCode)
	require.Equal(t, "text/event-stream", response.Header.Get("Content-Type"))
	l := &looking{t: t, close: cancel, done: make(chan struct{})}
	go func() {
		defer close(l.done)
		defer response.Body.Close()
		lines := bufio.NewScanner(response.Body)
		for lines.Scan() {
			name, value, _ := strings.Cut(lines.Text(), ": ")
			l.mu.Lock()
			switch name {
			case "data":
				var message map[string]any
				if json.Unmarshal([]byte(value), &message) == nil {
					l.told = append(l.told, message)
				}
			case "id":
				l.lastID = value
			}
			l.mu.Unlock()
		}
	}()
	t.Cleanup(func() { l.leave() })
	return l
}

// leave ends the connection and gives the last cursor.
func (l *looking) leave() string {
	l.close()
	<-l.done
	return l.lastID
}

// await waits for a message of a type that fits.
func (l *looking) await(kind string, fits func(map[string]any) bool) {
	l.t.Helper()
	require.Eventually(l.t, func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		for _, message := range l.told {
			if message["type"] == kind && (fits == nil || fits(message)) {
				return true
			}
		}
		return false
	}, 30*time.Second, 10*time.Millisecond, "no %s; told: %v", kind, l)
}

func (l *looking) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	text, _ := json.Marshal(l.told)
	return string(text)
}

// has looks for a value of a channel in readings or snapshot.
func has(list, device, channel string, value float64) func(map[string]any) bool {
	return func(message map[string]any) bool {
		devices, _ := message[list].([]any)
		for _, one := range devices {
			d, _ := one.(map[string]any)
			channels, _ := d["channels"].(map[string]any)
			reading, _ := channels[channel].(map[string]any)
			if d["device"] == device && reading["value"] == value {
				return true
			}
		}
		return false
	}
}

// sender is a device that is connected.
type sender struct {
	*client.Client
	t      *testing.T
	layout client.LayoutID
	leave  func()
}

func measure(t *testing.T, a *App, token string) *sender {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	device, err := client.New(client.Config{URL: a.URL(), Token: token, OnCommand: func(context.Context, wire.Command) wire.Result {
		return wire.Result{Status: wire.ResultDone}
	}})
	require.NoError(t, err)
	layout, err := device.Layout("env", []wire.Channel{{Name: "temperature", Unit: "°C"}})
	require.NoError(t, err)
	ended := make(chan error, 1)
	go func() { ended <- device.Run(ctx) }()
	s := &sender{Client: device, t: t, layout: layout}
	s.leave = sync.OnceFunc(func() {
		cancel()
		require.Error(t, <-ended) // its context's
	})
	t.Cleanup(s.leave)
	return s
}

func (s *sender) send(value float64) {
	s.t.Helper()
	_, err := s.Append(s.layout, time.Now(), wire.Value{Kind: wire.ValueNumber, Number: value})
	require.NoError(s.t, err)
}

// TestLiveOnTwoServers: what one server commits, viewers of both are told; who
// comes and goes, commands, and where one resumes.
func TestLiveOnTwoServers(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	one := startApp(t, Config{Gateway: "one", Location: Location{DatabaseURL: url}})
	two := startApp(t, Config{Gateway: "two", Location: Location{DatabaseURL: url}})
	admin := openAdmin(t, one)
	_, ann, err := admin.AddUser(t.Context(), "ann", devices.RoleViewer)
	require.NoError(t, err)
	_, token, err := admin.Add(t.Context(), devices.NewDevice{Name: "boiler", Model: "m", Labels: map[string]string{"site": "oslo"}})
	require.NoError(t, err)
	_, other, err := admin.Add(t.Context(), devices.NewDevice{Name: "other"})
	require.NoError(t, err)

	boiler := measure(t, one, token)
	boiler.send(20)
	near := look(t, one, ann, "label=site%3Doslo&every=100ms", "")
	far := look(t, two, ann, "device=boiler&every=100ms", "")
	for _, viewer := range []*looking{near, far} {
		viewer.await("hello", func(m map[string]any) bool { return m["resumed"] == false })
		viewer.await("snapshot_end", nil)
	}
	boiler.send(21)
	stranger := measure(t, one, other)
	stranger.send(1)
	for _, viewer := range []*looking{near, far} {
		viewer.await("readings", has("readings", "boiler", "temperature", 21))
		viewer.await("fleet", func(m map[string]any) bool { return m["devices"] == 2.0 && m["online"] == 2.0 })
	}
	asked, err := admin.SendCommand(t.Context(), "boiler", devices.NewCommand{Name: "identify"})
	require.NoError(t, err)
	for _, viewer := range []*looking{near, far} {
		viewer.await("command", func(m map[string]any) bool {
			command, _ := m["command"].(map[string]any)
			return command["number"] == float64(asked.ID) && command["state"] == "done"
		})
	}
	// The device moves to the other server.
	boiler.leave()
	for _, viewer := range []*looking{near, far} {
		viewer.await("presence", func(m map[string]any) bool { return m["device"] == "boiler" && m["online"] == false })
	}
	boiler = measure(t, two, token)
	boiler.send(22)
	for _, viewer := range []*looking{near, far} {
		viewer.await("readings", has("readings", "boiler", "temperature", 22))
		viewer.await("presence", func(m map[string]any) bool {
			return m["device"] == "boiler" && m["online"] == true && strings.Contains(m["reason"].(string), "two")
		})
		require.NotContains(t, viewer.String(), `"device":"other"`)
	}

	// One that was cut off goes on where it was; at another server it begins anew.
	last := far.leave()
	boiler.send(23)
	again := look(t, two, ann, "device=boiler&every=100ms", last)
	again.await("hello", func(m map[string]any) bool { return m["resumed"] == true })
	again.await("readings", has("readings", "boiler", "temperature", 23))
	require.NotContains(t, again.String(), "snapshot")
	elsewhere := look(t, one, ann, "device=boiler&every=100ms", last)
	elsewhere.await("hello", func(m map[string]any) bool { return m["resumed"] == false })
	elsewhere.await("snapshot_end", nil)
	changed := look(t, two, ann, "device=boiler&channel=temperature&every=100ms", last)
	changed.await("hello", func(m map[string]any) bool { return m["resumed"] == false })
}
