package devices

import (
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"mooring/internal/pgtest"
)

func BenchmarkAuthenticateFromMemory(b *testing.B) {
	for _, size := range []int{100, 100_000} {
		b.Run(strconv.Itoa(size), func(b *testing.B) {
			r := &Registry{metrics: newMetrics(nil), cache: newCache(size, 1, time.Hour, time.Hour)}
			tokens := make([]string, size)
			keys, answers := make([]credentialKey, size), make([]answer, size)
			for i := range tokens {
				tokens[i] = newToken()
				keys[i], answers[i] = tokenKey(tokens[i]), good(int32(i))
			}
			r.cache.begin()
			r.cache.finish(keys, answers)
			b.ReportAllocs()
			b.ResetTimer()
			for i := range b.N {
				if _, err := r.Authenticate(b.Context(), Credential{Token: tokens[i%size]}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkProgress(b *testing.B) {
	r := &Registry{metrics: newMetrics(nil), book: newBook(time.Minute)}
	for id := range int64(15_000) {
		start := startOf(Device{ID: int32(id)})
		r.book.open(id, &start)
	}
	now := time.Now()
	b.ReportAllocs()
	for i := range b.N {
		r.Progress(SessionProgress{Session: int64(i % 15_000), LastSeen: now, Next: 1, HasNext: true})
	}
}

// BenchmarkSessionOpen opens sessions from 1,000 goroutines.
func BenchmarkSessionOpen(b *testing.B) {
	url := pgtest.URL(b)
	admin, r := openAdmin(b, url), openRegistry(b, url, func(c *Config) { c.FlushEvery, c.Wait = time.Hour, time.Minute })
	added, err := admin.AddMany(b.Context(), NewDevices{Prefix: "s", Count: 1000})
	if err != nil {
		b.Fatal(err)
	}
	var next atomic.Int64
	b.ReportAllocs()
	b.SetParallelism(500)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		d := added[next.Add(1)%1000].Device
		for pb.Next() {
			if _, err := r.OpenSession(b.Context(), startOf(d)); err != nil {
				b.Error(err)
			}
		}
	})
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "sessions/s")
}

// BenchmarkSessionFlush writes the progress of 15,000 sessions.
func BenchmarkSessionFlush(b *testing.B) {
	url := pgtest.URL(b)
	admin, r := openAdmin(b, url), openRegistry(b, url, func(c *Config) { c.FlushEvery, c.Wait = time.Hour, time.Minute })
	d := add(b, admin, "a").Device
	for range 15 {
		batch := make([]*opening, 1000)
		for i := range batch {
			batch[i] = &opening{start: startOf(d), done: make(chan struct{})}
		}
		r.openBatch(b.Context(), batch)
	}
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		r.book.markAll()
		if err := r.flush(b.Context(), true); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	b.ReportMetric(15_000*float64(b.N)/b.Elapsed().Seconds(), "sessions/s")
}

// BenchmarkSessionCheck asks about 15,000 open sessions, as is done every CheckEvery.
func BenchmarkSessionCheck(b *testing.B) {
	const sessions = 15_000
	url := pgtest.URL(b)
	admin := openAdmin(b, url)
	r := openRegistry(b, url, func(c *Config) { c.CheckEvery, c.Wait = time.Hour, time.Minute })
	added, err := admin.AddMany(b.Context(), NewDevices{Prefix: "s", Count: sessions})
	if err != nil {
		b.Fatal(err)
	}
	for some := range slices.Chunk(added, maxOpenings) {
		batch := make([]*opening, len(some))
		for i := range batch {
			batch[i] = &opening{start: startOf(some[i].Device), done: make(chan struct{})}
		}
		r.openBatch(b.Context(), batch)
	}
	b.ResetTimer()
	for range b.N {
		if err := r.checkSessions(b.Context(), r.book.live, false); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	b.ReportMetric(sessions*float64(b.N)/b.Elapsed().Seconds(), "sessions/s")
}
