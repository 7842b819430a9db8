package console

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mooring/devices"
	"mooring/internal/pgtest"
	"mooring/storage"
	"mooring/wire"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// stage is an API on a database of its own, with a user of each role.
type stage struct {
	*testing.T
	api    *API
	admin  *devices.Admin
	server *httptest.Server
	dbURL  string
	tokens map[devices.Role]string
}

func newStage(t *testing.T) *stage {
	t.Helper()
	s := &stage{T: t, dbURL: pgtest.URL(t), tokens: make(map[devices.Role]string)}
	var err error
	s.admin, err = devices.OpenAdmin(t.Context(), s.dbURL)
	require.NoError(t, err)
	t.Cleanup(s.admin.Close)
	reader, err := storage.OpenReader(t.Context(), pgtest.ReaderURL(t, s.dbURL))
	require.NoError(t, err)
	t.Cleanup(reader.Close)
	s.api, err = New(Config{
		Devices: s.admin, Reader: reader, Version: "test", Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
		Gauges: func() Gauges { return Gauges{RowsSettled: 7} },
	})
	require.NoError(t, err)
	s.server = httptest.NewServer(s.api)
	t.Cleanup(s.server.Close)
	for _, role := range []devices.Role{devices.RoleViewer, devices.RoleOperator, devices.RoleAdmin} {
		_, s.tokens[role], err = s.admin.AddUser(t.Context(), string(role), role)
		require.NoError(t, err)
	}
	return s
}

// answer is what came back.
type answer struct {
	status int
	header http.Header
	body   string
}

// ask sends a request as a user of a role; "" as nobody.
func (s *stage) ask(role devices.Role, method, path string, body any) answer {
	s.Helper()
	var content io.Reader
	if body != nil {
		encoded, err := json.Marshal(body)
		require.NoError(s, err)
		content = bytes.NewReader(encoded)
	}
	request, err := http.NewRequestWithContext(s.Context(), method, s.server.URL+Prefix+path, content)
	require.NoError(s, err)
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	if role != "" {
		request.Header.Set("Authorization", "Bearer "+s.tokens[role])
	}
	return s.do(s.server.Client(), request)
}

func (s *stage) do(client *http.Client, request *http.Request) answer {
	s.Helper()
	response, err := client.Do(request)
	require.NoError(s, err)
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	require.NoError(s, err)
	return answer{response.StatusCode, response.Header, string(text)}
}

// get asks as a viewer and decodes the answer.
func get[T any](s *stage, path string) T {
	s.Helper()
	got := s.ask(devices.RoleViewer, http.MethodGet, path, nil)
	require.Equal(s, http.StatusOK, got.status, got.body)
	var value T
	require.NoError(s, json.Unmarshal([]byte(got.body), &value), got.body)
	return value
}

// requireProblem checks a problem detail (RFC 9457).
func (s *stage) requireProblem(got answer, status int, words string) {
	s.Helper()
	require.Equal(s, status, got.status, got.body)
	require.Equal(s, "application/problem+json", got.header.Get("Content-Type"))
	var problem struct {
		Title  string
		Status int
	}
	require.NoError(s, json.Unmarshal([]byte(got.body), &problem))
	require.Equal(s, status, problem.Status)
	require.NotEmpty(s, problem.Title)
	require.Contains(s, got.body, words)
}

// write stores samples of a device: channels a, b (text) at one a second.
func (s *stage) write(device string, start time.Time, count int) {
	s.Helper()
	ctx := context.WithoutCancel(s.Context())
	detail, err := s.admin.Show(ctx, device)
	require.NoError(s, err)
	store, err := storage.Open(ctx, storage.Config{URL: s.dbURL})
	require.NoError(s, err)
	defer func() { require.NoError(s, store.Close(ctx)) }()
	layout, err := store.ResolveLayout(ctx, detail.ID, &wire.Layout{Name: "env", Channels: []wire.Channel{
		{Name: "a", Unit: "V"}, {Name: "b", Kind: wire.KindText},
	}})
	require.NoError(s, err)
	var rows []byte
	for i := range count {
		rows = store.AppendRow(rows, detail.ID, layout, &wire.Row{
			Seq: uint64(i), Time: start.Add(time.Duration(i) * time.Second).UnixMicro(),
			Values: []wire.Value{{Kind: wire.ValueNumber, Number: float64(i)}, {Kind: wire.ValueText, Text: []byte(fmt.Sprintf("t,%d", i))}},
		})
	}
	_, err = store.Write(ctx, 0, rows, count, nil)
	require.NoError(s, err)
}

func TestDevices(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	added := s.ask(devices.RoleOperator, http.MethodPost, "/devices", map[string]any{
		"name": "pump-1", "model": "pump", "labels": map[string]string{"site": "oslo"}, "token_lifetime_s": 3600,
	})
	require.Equal(t, http.StatusCreated, added.status, added.body)
	require.Contains(t, added.body, `"token":"mrg_`)
	s.requireProblem(s.ask(devices.RoleOperator, http.MethodPost, "/devices", map[string]any{"name": "pump-1"}), 409, "exists already")
	s.requireProblem(s.ask(devices.RoleOperator, http.MethodPost, "/devices", map[string]any{"name": "a b"}), 422, `"location":"name"`)
	s.requireProblem(s.ask(devices.RoleOperator, http.MethodPost, "/devices", map[string]any{"name": "x", "colour": "red"}), 422, "colour")
	s.requireProblem(s.ask(devices.RoleOperator, http.MethodPost, "/devices", nil), 400, "body")
	for i := 2; i < 6; i++ {
		_, _, err := s.admin.Add(t.Context(), devices.NewDevice{Name: fmt.Sprintf("pump-%d", i), Model: "pump"})
		require.NoError(t, err)
	}

	page := get[[]Device](s, "/devices?limit=2&model=pump")
	require.Len(t, page, 2)
	page = get[[]Device](s, "/devices?limit=10&after="+page[1].Name)
	require.Equal(t, "pump-3", page[0].Name)
	require.Len(t, get[[]Device](s, "/devices?label=site%3Doslo&state=offline"), 1)
	require.Empty(t, get[[]Device](s, "/devices?state=online"))
	s.requireProblem(s.ask(devices.RoleViewer, http.MethodGet, "/devices?label=site", nil), 422, "key=value")
	s.requireProblem(s.ask(devices.RoleViewer, http.MethodGet, "/devices?state=broken", nil), 422, "query.state")
	s.requireProblem(s.ask(devices.RoleViewer, http.MethodGet, "/devices?limit=100000", nil), 422, "query.limit")
	s.requireProblem(s.ask(devices.RoleViewer, http.MethodGet, "/devices?colour=red", nil), 422, "colour")

	changed := s.ask(devices.RoleOperator, http.MethodPatch, "/devices/pump-1", map[string]any{
		"labels": map[string]string{"site": "rome"}, "disabled": true,
	})
	require.Equal(t, http.StatusOK, changed.status, changed.body)
	shown := get[DeviceDetail](s, "/devices/pump-1")
	require.Equal(t, "disabled", shown.State)
	require.Equal(t, "pump", shown.Model, "what is not named stays")
	require.Equal(t, map[string]any{"site": "rome"}, shown.Labels)
	require.Len(t, shown.Tokens, 1)
	require.Equal(t, http.StatusOK, s.ask(devices.RoleOperator, http.MethodPatch, "/devices/pump-1", map[string]any{"disabled": false}).status)
	require.Equal(t, "offline", get[DeviceDetail](s, "/devices/pump-1").State)

	rotated := s.ask(devices.RoleOperator, http.MethodPost, "/devices/pump-1/rotate", map[string]any{"now": true, "label": "second"})
	require.Equal(t, http.StatusOK, rotated.status, rotated.body)
	require.NotEqual(t, added.body, rotated.body)
	require.Len(t, get[DeviceDetail](s, "/devices/pump-1").Tokens, 2)

	s.write("pump-1", time.Now().Add(-time.Minute), 1)
	s.requireProblem(s.ask(devices.RoleAdmin, http.MethodDelete, "/devices/pump-1", nil), 409, "readings")
	require.Equal(t, http.StatusNoContent, s.ask(devices.RoleAdmin, http.MethodDelete, "/devices/pump-1?purge=true", nil).status)
	for _, path := range []string{"", "/sessions", "/layouts", "/rejects", "/readings", "/latest"} {
		s.requireProblem(s.ask(devices.RoleViewer, http.MethodGet, "/devices/pump-1"+path, nil), 404, "no such device: pump-1")
	}
	for method, path := range map[string]string{http.MethodPatch: "", http.MethodPost: "/rotate"} {
		s.requireProblem(s.ask(devices.RoleOperator, method, "/devices/pump-1"+path, map[string]any{}), 404, "no such device")
	}
}

func TestReadings(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	_, _, err := s.admin.Add(t.Context(), devices.NewDevice{Name: "valve"})
	require.NoError(t, err)
	start := time.Now().UTC().Truncate(time.Minute).Add(-30 * time.Minute)
	s.write("valve", start, 600)
	between := func(from, until time.Duration) string {
		return "/devices/valve/readings?from=" + start.Add(from).Format(time.RFC3339) + "&until=" + start.Add(until).Format(time.RFC3339)
	}

	require.Len(t, get[[]Reading](s, "/devices/valve/readings"), 1200, "the last hour")
	list := get[[]Reading](s, between(10*time.Second, 12*time.Second))
	require.Len(t, list, 4)
	require.Equal(t, "a", list[0].Metric)
	require.InDelta(t, 10, *list[0].Value, 0)
	require.Nil(t, list[0].Text)
	require.Equal(t, "t,10", *list[1].Text)
	require.Nil(t, list[1].Value)
	require.Len(t, get[[]Reading](s, between(0, time.Hour)+"&metric=a&limit=7"), 7)
	require.Empty(t, get[[]Reading](s, between(-time.Hour, 0)))

	buckets := get[[]Bucket](s, between(0, 10*time.Minute)+"&step=1m&metric=a&metric=b")
	require.Len(t, buckets, 10)
	require.Equal(t, Bucket{Start: start.Add(time.Minute), Metric: "a", Unit: "V", Count: 60, Min: 60, Max: 119, Avg: 89.5, Last: 119},
		func(b Bucket) Bucket { b.Start = b.Start.UTC(); return b }(buckets[1]))

	lines := s.ask(devices.RoleViewer, http.MethodGet, between(0, 2*time.Second)+"&format=ndjson", nil)
	require.Equal(t, "application/x-ndjson", lines.header.Get("Content-Type"))
	require.Equal(t, 4, strings.Count(lines.body, "\n"))
	table := s.ask(devices.RoleViewer, http.MethodGet, between(0, 2*time.Second)+"&format=csv", nil)
	require.Equal(t, "ts,metric,value,text,unit,seq\n"+
		start.Format(time.RFC3339)+",a,0,,V,0\n"+start.Format(time.RFC3339)+",b,,\"t,0\",,0\n"+
		start.Add(time.Second).Format(time.RFC3339)+",a,1,,V,1\n"+start.Add(time.Second).Format(time.RFC3339)+",b,,\"t,1\",,1\n", table.body)
	table = s.ask(devices.RoleViewer, http.MethodGet, between(0, time.Minute)+"&format=csv&step=1m", nil)
	require.Contains(t, table.body, ",a,V,60,0,59,29.5,59\n")

	for query, words := range map[string]string{
		"from=2026-01-02T00:00:00Z&until=2026-01-01T00:00:00Z": "query.from",
		"from=yesterday":                    "query.from",
		"step=soon":                         "query.step",
		"step=1us":                          "query.step",
		"step=1s&limit=5":                   "query.limit",
		"step=1s&from=2020-01-01T00:00:00Z": "at most 10000",
		"format=xml":                        "query.format",
	} {
		s.requireProblem(s.ask(devices.RoleViewer, http.MethodGet, "/devices/valve/readings?"+query, nil), 422, words)
	}

	latest := get[[]Reading](s, "/devices/valve/latest")
	require.Len(t, latest, 2)
	require.InDelta(t, 599, *latest[0].Value, 0)
	layouts := get[[]Layout](s, "/devices/valve/layouts")
	require.Equal(t, []Channel{{"a", "V", "number"}, {"b", "", "text"}}, layouts[0].Channels)
	require.Empty(t, get[[]Reject](s, "/devices/valve/rejects"))
	require.Empty(t, get[[]Session](s, "/devices/valve/sessions"))
}

func TestCommands(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	_, err := s.admin.AddMany(t.Context(), devices.NewDevices{Prefix: "pump-", Count: 3, Model: "pump"})
	require.NoError(t, err)
	sent := s.ask(devices.RoleOperator, http.MethodPost, "/devices/pump-1/commands", map[string]any{
		"name": "set_interval", "args": map[string]any{"ms": 500}, "ttl_s": 600,
	})
	require.Equal(t, http.StatusAccepted, sent.status, sent.body)
	many := s.ask(devices.RoleOperator, http.MethodPost, "/commands", map[string]any{"name": "stop", "model": "pump", "idempotent": true})
	require.Equal(t, http.StatusAccepted, many.status, many.body)
	require.JSONEq(t, `{"numbers":[2,3,4]}`, many.body)

	shown := get[Command](s, "/commands/1")
	require.JSONEq(t, `{"ms":500}`, string(shown.Args))
	require.Equal(t, "operator", shown.AskedBy)
	require.Equal(t, "queued", shown.Steps[0].State)
	require.InDelta(t, 600, shown.ExpiresAt.Sub(shown.CreatedAt).Seconds(), 0.001)
	require.Len(t, get[[]Command](s, "/commands"), 4)
	require.Len(t, get[[]Command](s, "/commands?device=pump-1&open=true"), 2)
	require.Len(t, get[[]Command](s, "/commands?before=3&limit=1"), 1)

	for body, status := range map[string]int{
		`{"name":"two words"}`: 422, `{"name":"x","ttl_s":0}`: 422, `{"name":"x","args":"` + strings.Repeat("x", 1000) + `"}`: 422, `{"args":1}`: 422,
	} {
		s.requireProblem(s.ask(devices.RoleOperator, http.MethodPost, "/devices/pump-1/commands", json.RawMessage(body)), status, "")
	}
	s.requireProblem(s.ask(devices.RoleOperator, http.MethodPost, "/devices/none/commands", map[string]any{"name": "x"}), 404, "none")
	s.requireProblem(s.ask(devices.RoleOperator, http.MethodPost, "/commands", map[string]any{"name": "x"}), 422, "recipients")
	s.requireProblem(s.ask(devices.RoleViewer, http.MethodGet, "/commands/99", nil), 404, "no such command")
	s.requireProblem(s.ask(devices.RoleViewer, http.MethodGet, "/commands?device=none", nil), 404, "none")
	s.requireProblem(s.ask(devices.RoleOperator, http.MethodPost, "/devices/pump-1/commands", map[string]any{
		"name": "x", "args": strings.Repeat("x", maxBody),
	}), 413, "")
}

// TestRoles asks for every operation of the document as nobody and as every
// role: none slips in without saying who may.
func TestRoles(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	ranks := []devices.Role{"", devices.RoleViewer, devices.RoleOperator, devices.RoleAdmin}
	checked := 0
	for path, item := range s.api.OpenAPI().Paths {
		for method, op := range map[string]any{
			http.MethodGet: item.Get, http.MethodPost: item.Post, http.MethodPatch: item.Patch, http.MethodDelete: item.Delete,
		} {
			encoded, err := json.Marshal(op)
			require.NoError(t, err)
			if string(encoded) == "null" {
				continue
			}
			var described struct {
				Description string
				Security    []any
			}
			require.NoError(t, json.Unmarshal(encoded, &described))
			if path == "/login" || path == "/logout" {
				require.Empty(t, described.Security)
				continue
			}
			checked++
			needed := 0
			for rank, role := range ranks {
				if role != "" && strings.Contains(described.Description, "Needs the role "+string(role)+".") {
					needed = rank
				}
			}
			require.NotZero(t, needed, "%s %s says who may", method, path)
			for rank, role := range ranks {
				// Names of nothing: whoever may gets some other error, or an empty list.
				got := s.ask(role, method, strings.NewReplacer("{name}", "nothing", "{number}", "1").Replace(path), nil)
				switch {
				case rank == 0:
					s.requireProblem(got, 401, "")
					require.Contains(t, got.header.Get("WWW-Authenticate"), "Bearer")
				case rank < needed:
					s.requireProblem(got, 403, "needs the role "+string(ranks[needed]))
				default:
					require.NotContains(t, []int{401, 403}, got.status, "%s %s as %s", method, path, role)
				}
			}
		}
	}
	require.Greater(t, checked, 15)
}

func TestUsersByAPI(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	added := s.ask(devices.RoleAdmin, http.MethodPost, "/users", map[string]any{"name": "ann", "role": "viewer"})
	require.Equal(t, http.StatusCreated, added.status, added.body)
	var ann struct{ Token string }
	require.NoError(t, json.Unmarshal([]byte(added.body), &ann))
	s.tokens["ann"] = ann.Token
	require.Contains(t, s.ask("ann", http.MethodGet, "/me", nil).body, `"name":"ann","role":"viewer"`)
	require.Contains(t, s.ask(devices.RoleAdmin, http.MethodGet, "/users", nil).body, `"name":"ann"`)
	require.Equal(t, http.StatusNoContent, s.ask(devices.RoleAdmin, http.MethodDelete, "/users/ann", nil).status)
	s.requireProblem(s.ask("ann", http.MethodGet, "/me", nil), 401, "no longer")
	s.requireProblem(s.ask(devices.RoleAdmin, http.MethodDelete, "/users/ann", nil), 404, "no such user")
	s.requireProblem(s.ask(devices.RoleAdmin, http.MethodPost, "/users", map[string]any{"name": "viewer", "role": "viewer"}), 409, "exists")
	s.requireProblem(s.ask(devices.RoleAdmin, http.MethodPost, "/users", map[string]any{"name": "b", "role": "king"}), 422, "role")
}

// TestBrowser logs in as a browser does, and is protected as one.
func TestBrowser(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	client := &http.Client{Jar: jar, Transport: s.server.Client().Transport}
	send := func(method, path, body string, header ...string) answer {
		request, err := http.NewRequestWithContext(t.Context(), method, s.server.URL+Prefix+path, strings.NewReader(body))
		require.NoError(t, err)
		request.Header.Set("Content-Type", "application/json")
		for i := 0; i < len(header); i += 2 {
			request.Header.Set(header[i], header[i+1])
		}
		return s.do(client, request)
	}
	s.requireProblem(send(http.MethodGet, "/me", ""), 401, "say who you are")
	link, err := s.admin.NewLink(t.Context(), "operator")
	require.NoError(t, err)
	in := send(http.MethodPost, "/login", `{"token":"`+link+`"}`)
	require.Equal(t, http.StatusOK, in.status, in.body)
	cookie := in.header.Get("Set-Cookie")
	require.Contains(t, cookie, "HttpOnly")
	require.Contains(t, cookie, "SameSite=Strict")
	require.NotContains(t, in.body, "mru_")
	require.Contains(t, send(http.MethodGet, "/me", "").body, "operator")
	s.requireProblem(send(http.MethodPost, "/login", `{"token":"`+link+`"}`), 401, "no longer")

	add := func(name string, header ...string) answer {
		return send(http.MethodPost, "/devices", `{"name":"`+name+`"}`, header...)
	}
	require.Equal(t, http.StatusCreated, add("one", "Sec-Fetch-Site", "same-origin").status)
	s.requireProblem(add("two", "Sec-Fetch-Site", "cross-site"), 403, "another site")
	s.requireProblem(add("two", "Origin", "https://elsewhere.example"), 403, "another site")

	address, err := url.Parse(s.server.URL)
	require.NoError(t, err)
	require.Len(t, jar.Cookies(address), 1)
	require.Equal(t, http.StatusNoContent, send(http.MethodPost, "/logout", "").status)
	require.Empty(t, jar.Cookies(address), "the cookie is taken back")
	s.requireProblem(send(http.MethodGet, "/me", "", "Cookie", strings.SplitN(cookie, ";", 2)[0]), 401, "no longer")
}

func TestLimits(t *testing.T) {
	t.Parallel()
	now := time.Now()
	still := func() time.Time { return now } // nothing is granted anew while it looks
	s := newStage(t)
	s.api.limits.now = still
	s.tokens["wrong"] = strings.Repeat("x", 60)
	for range failuresAtOnce {
		s.requireProblem(s.ask("wrong", http.MethodGet, "/me", nil), 401, "")
	}
	refused := s.ask("wrong", http.MethodGet, "/me", nil)
	s.requireProblem(refused, 429, "too many wrong tokens")
	require.Equal(t, "6", refused.header.Get("Retry-After"))
	s.requireProblem(s.ask("", http.MethodPost, "/login", map[string]string{"token": "x"}), 429, "too many wrong tokens")

	other := newStage(t)
	other.api.limits.now = still
	limited := 0
	for range requestsAtOnce + 100 {
		if other.ask(devices.RoleViewer, http.MethodGet, "/me", nil).status == http.StatusTooManyRequests {
			limited++
		}
	}
	require.Equal(t, 100, limited)
	require.Equal(t, http.StatusOK, other.ask(devices.RoleAdmin, http.MethodGet, "/me", nil).status, "another user's requests are its own")
}

func TestPages(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	page := s.ask("", http.MethodGet, "/docs", nil)
	require.Equal(t, http.StatusOK, page.status)
	require.NotContains(t, page.body, "http://", "it loads nothing from elsewhere")
	require.NotContains(t, page.body, "https://")
	require.Contains(t, s.ask("", http.MethodGet, "/openapi.json", nil).body, `"openapi":"3.1.0"`)
	s.requireProblem(s.ask("", http.MethodGet, "/nothing", nil), 404, "no such operation")
}

// TestBrokenAnswer: an answer that could not be finished does not look whole.
func TestBrokenAnswer(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	_, _, err := s.admin.Add(t.Context(), devices.NewDevice{Name: "valve"})
	require.NoError(t, err)
	s.write("valve", time.Now().Add(-2000*time.Second), 2000)
	s.api.cfg.Reader.Close()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.server.URL+Prefix+"/devices/valve/readings", nil)
	require.NoError(t, err)
	request.Header.Set("Authorization", "Bearer "+s.tokens[devices.RoleViewer])
	response, err := s.server.Client().Do(request)
	if err == nil {
		defer func() { _ = response.Body.Close() }()
		_, err = io.ReadAll(response.Body)
	}
	require.Error(t, err)
}
