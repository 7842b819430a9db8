package devices

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/require"
)

func metricValue(tb testing.TB, metric prometheus.Metric) float64 {
	tb.Helper()
	var m dto.Metric
	require.NoError(tb, metric.Write(&m))
	return m.GetCounter().GetValue()
}

func key(b byte) credentialKey { return credentialKey{b} }

func good(id int32) answer { return answer{device: Device{ID: id, Name: "d", TokenID: int64(id)}} }

var refusal = answer{err: ErrUnauthenticated}

// learn is one lookup; while it is under way, meanwhile happens.
func learn(c *cache, k credentialKey, a answer, meanwhile func()) {
	c.begin()
	if meanwhile != nil {
		meanwhile()
	}
	c.finish([]credentialKey{k}, []answer{a})
}

func TestCacheForgetsInTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCache(10, 10, time.Hour, time.Minute)
		learn(c, key(1), good(1), nil)
		learn(c, key(2), refusal, nil)
		short := good(3)
		short.lives = 10 * time.Second
		learn(c, key(3), short, nil)
		has := func(b byte) bool { _, ok := c.get(key(b), time.Now()); return ok }

		time.Sleep(10*time.Second - 1)
		require.True(t, has(3))
		time.Sleep(time.Nanosecond)
		require.False(t, has(3), "the token expired")
		time.Sleep(50*time.Second - 1)
		require.True(t, has(2))
		time.Sleep(time.Nanosecond)
		require.False(t, has(2))
		time.Sleep(50 * time.Minute)
		require.True(t, has(1))
		time.Sleep(16 * time.Minute)
		require.False(t, has(1), "an hour and a tenth at most")
		require.Empty(t, c.byDevice)
	})
}

// Who looked before the answer was learnt, and asks afterwards, has it from memory:
// one credential is asked for twice at most, however late anybody is.
func TestWhatWasLearntMeanwhileIsNotAskedFor(t *testing.T) {
	t.Parallel()
	c := newCache(10, 10, time.Hour, time.Hour)
	l := newLookups(nil, c, newMetrics(nil), time.Hour, 2) // no goroutine runs: whoever asks, waits
	learn(c, key(1), good(7), nil)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := l.ask(gone, key(2), "", "")
	require.ErrorIs(t, err, context.Canceled)
	for range 20 { // of two that are ready, select takes either
		found, err := l.ask(gone, key(1), "", "")
		require.NoError(t, err)
		require.Equal(t, int32(7), found.device.ID)
	}
	require.Equal(t, 1, l.waiting())
}

func TestCacheIsBoundedAndKeepsGoodOnesApart(t *testing.T) {
	t.Parallel()
	c := newCache(3, 2, time.Hour, time.Hour)
	for i := range 100 {
		learn(c, key(byte(i)), good(int32(i)), nil)
		learn(c, key(byte(100+i)), refusal, nil)
	}
	require.Equal(t, 3, c.size())
	require.Len(t, c.byDevice, 3)
	require.Equal(t, 2, c.refused.Len())
	_, ok := c.get(key(99), time.Now())
	require.True(t, ok)
}

func TestCacheForgetsADevice(t *testing.T) {
	t.Parallel()
	c := newCache(10, 10, time.Hour, time.Hour)
	for range 2 { // learned twice, listed once
		learn(c, key(1), good(7), nil)
		learn(c, key(2), good(7), nil)
		learn(c, key(3), good(8), nil)
	}
	require.Len(t, c.byDevice[7], 2)
	c.forgetDevice(7)
	require.Equal(t, 1, c.size())
	require.NotContains(t, c.byDevice, int32(7))
}

func TestAnAnswerThatNewsOvertookIsNotKept(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		answer answer
		news   func(c *cache)
		kept   bool
	}{
		{"nothing new", good(7), nil, true},
		{"its device", good(7), func(c *cache) { c.forgetDevice(7) }, false},
		{"another device", good(7), func(c *cache) { c.forgetDevice(8) }, true},
		{"so much that it can't be listed", good(7), func(c *cache) {
			for i := range maxNews + 1 {
				c.forgetDevice(int32(100 + i))
			}
		}, false},
		{"everything", good(7), func(c *cache) { c.forgetAll() }, false},
		{"a refusal, and a device was added", refusal, func(c *cache) { c.forgetRefusals() }, false},
		{"a refusal, and a device was dropped", refusal, func(c *cache) { c.forgetDevice(7) }, true},
		{"a good one, and a device was added", good(7), func(c *cache) { c.forgetRefusals() }, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c := newCache(10, 10, time.Hour, time.Hour)
			learn(c, key(1), test.answer, func() {
				if test.news != nil {
					test.news(c)
				}
			})
			_, ok := c.get(key(1), time.Now())
			require.Equal(t, test.kept, ok)
			learn(c, key(1), test.answer, nil)
			_, ok = c.get(key(1), time.Now())
			require.True(t, ok, "news count for the lookup under way only")
		})
	}
}
