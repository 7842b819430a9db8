package live

import (
	"encoding/json"
	"math"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

// FuzzSubscribe: whatever a viewer says, what comes of it holds the limits, and
// saying the same again asks for the same.
func FuzzSubscribe(f *testing.F) {
	for _, seed := range []string{
		`{"type":"subscribe"}`,
		`{"type":"subscribe","devices":["b","a","a"],"model":"m","labels":{"k":"v"},"channels":["t"],"events":["readings","fleet"],"every":"250ms"}`,
		`{"type":"subscribe","events":["all"]}`, `{"type":"subscribe","every":"1ns"}`, `{"type":"subscribe","devices":[""]}`,
		`{"type":"subscribe","labels":{"":"v"}}`, `[`, `{"type":"subscribe"} {}`, `{"type":"subscribe","devices":["` + strings.Repeat("x", 200) + `"]}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		got, err := parseSubscribe(text)
		if err != nil {
			var field *fieldError
			require.ErrorAs(t, err, &field)
			require.NotEmpty(t, field.problem)
			return
		}
		require.LessOrEqual(t, len(got.names), maxNames)
		require.LessOrEqual(t, len(got.channels), maxChannels)
		require.LessOrEqual(t, len(got.labels), maxLabels)
		require.True(t, got.every >= minEvery && got.every <= maxEvery)
		require.NotZero(t, got.events)
		for _, name := range append(append([]string{}, got.names...), got.channels...) {
			require.True(t, name != "" && len(name) <= maxName && utf8.ValidString(name) && !strings.ContainsRune(name, 0))
		}
		for _, channel := range got.channels {
			require.True(t, got.wants(channel))
		}
		again, err := parseSubscribe(text)
		require.NoError(t, err)
		require.Equal(t, got.hash(), again.hash())
	})
}

// FuzzCursor: what looks like a cursor is written as it was read.
func FuzzCursor(f *testing.F) {
	for _, seed := range []string{"a1b2c3d4.5f.12.3", "", "...", "x.y.1.2", "e.ffffffff.18446744073709551615.0"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c, ok := parseCursor(text)
		if !ok {
			return
		}
		again, ok := parseCursor(string(c.append(nil)))
		require.True(t, ok)
		require.Equal(t, c, again)
	})
}

// TestFiltersApart: filters that select other things have other cursors.
func TestFiltersApart(t *testing.T) {
	t.Parallel()
	seen := make(map[uint32]string)
	for _, query := range []string{
		"", "device=a", "device=b", "device=a&device=b", "model=a", "label=a%3Db", "label=a%3Dc", "label=a%3Db&label=b%3Da",
		"channel=a", "channel=b", "events=readings", "events=readings,presence", "model=a&device=a", "device=a%22b",
	} {
		values, err := url.ParseQuery(query)
		require.NoError(t, err)
		req, err := parseQuery(values)
		require.NoError(t, err, query)
		hash := req.filter.hash()
		require.NotContains(t, seen, hash, query)
		seen[hash] = query
	}
	one, err := parseQuery(url.Values{"device": {"b", "a", "b"}, "every": {"1s"}})
	require.NoError(t, err)
	other, err := parseQuery(url.Values{"device": {"a", "b"}, "every": {"5s"}})
	require.NoError(t, err)
	require.Equal(t, one.filter.hash(), other.filter.hash(), "order and pace make no difference")
}

// TestFilterIsText: what the database can't compare with is refused by name before it
// is asked.
func TestFilterIsText(t *testing.T) {
	t.Parallel()
	for query, field := range map[string]string{
		"device=a%ffb": "device", "device=%00": "device", "device=a&device=%c3": "device", "channel=%ff": "channel", "model=%ed%a0%80": "model",
		"label=%ff=x": "label", "label=x=%ff": "label", "label=x=%00": "label", "device=" + strings.Repeat("x", maxName+1): "device",
	} {
		values, err := url.ParseQuery(query)
		require.NoError(t, err)
		_, err = parseQuery(values)
		var wrong *fieldError
		require.ErrorAs(t, err, &wrong, query)
		require.Equal(t, field, wrong.field, query)
		require.Contains(t, err.Error(), "128 bytes", query)
	}
	s := newStage(t, 1, nil)
	response, err := s.server.Client().Get(s.server.URL + "?model=%ff")
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	require.Equal(t, http.StatusUnprocessableEntity, response.StatusCode)
	for _, query := range []string{"device=%e2%82%ac", "label=x="} {
		values, err := url.ParseQuery(query)
		require.NoError(t, err)
		_, err = parseQuery(values)
		require.NoError(t, err, query)
	}
}

// TestEncoding: what is written by hand is what encoding/json reads.
func TestEncoding(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "plain", "\"\\", "\n\t\x00", "ümlaut", "<&>", "\u2028", "\xff"} {
		var got string
		require.NoError(t, json.Unmarshal(appendText(nil, text), &got))
		require.Equal(t, strings.ToValidUTF8(text, "\uFFFD"), got)
		require.NotContains(t, string(appendText(nil, text)), "\n")
	}
	for _, number := range []float64{0, -0.1, 1, 1e-7, 1e-6, 1e21, 1e20, math.MaxFloat64, math.SmallestNonzeroFloat64, 123456789.125} {
		var got float64
		require.NoError(t, json.Unmarshal(appendNumber(nil, number), &got))
		require.InDelta(t, number, got, 0)
	}
	require.Equal(t, "null", string(appendNumber(nil, math.NaN())))
	require.Equal(t, `"t":{"time":"2001-09-09T01:46:40Z","value":null,"text":"a\"b"`, string(appendReading(nil, "t", 1e15, 0, []byte(`a"b`))))
}

// TestNewestCounts: of two readings the newer one stays, by time and then number.
func TestNewestCounts(t *testing.T) {
	t.Parallel()
	s := slot{channel: "a"}
	s.bring(100, 5, 1, nil, 1)
	s.bring(99, 9, 2, nil, 2)
	s.bring(100, 4, 3, nil, 3)
	require.Equal(t, uint64(1), s.change, "neither was newer")
	s.bring(100, 6, 4, nil, 4)
	require.Equal(t, uint64(4), s.change)
	require.Contains(t, string(s.encoded), `"value":4`)
}
