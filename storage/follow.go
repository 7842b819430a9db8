package storage

import (
	"sync"
	"sync/atomic"
	"time"
)

// Follower gathers what was committed of devices that somebody watches: of each
// channel the newest reading, and how many rows there were. It costs a writer one
// look at a pointer while nobody watches. Otherwise it costs one look-up for each
// device of a batch, and for those that are watched the decoding of mostly one
// row. What it holds is bounded by the watched devices and their layouts, however
// seldom it is taken.
type Follower struct {
	watched atomic.Pointer[map[int32]struct{}] // nil: nobody watches
	shards  []followShard                      // one a writer
	taking  sync.Mutex
}

// followShard is what one writer has committed since the last Take. Its writer
// waits for Take no longer than two maps take to change places.
type followShard struct {
	mu      sync.Mutex
	news    map[pair]*pairNews
	handing map[pair]*pairNews // of Take; kept, so that states are made once
}

type pairNews struct {
	state pairState // readings alone
	rows  int
}

// News is what was committed of a device and one of its layouts.
type News struct {
	Device, Layout int32
	Rows           int       // committed
	Readings       []Newest  // by channel position; valid until the call returns
	Committed      time.Time // not later than this
}

// Newest is the newest reading of a channel, by time and then sequence number.
type Newest struct {
	Known  bool  // false: no reading of this channel
	Time   int64 // µs since 1970
	Seq    uint64
	Number float64
	Text   []byte // nil: a number, or a bool as 0 or 1
}

func newFollower(writers int) *Follower {
	f := &Follower{shards: make([]followShard, writers)}
	for i := range f.shards {
		f.shards[i].news, f.shards[i].handing = make(map[pair]*pairNews), make(map[pair]*pairNews)
	}
	return f
}

// Follower is the store's; there is one.
func (s *Store) Follower() *Follower { return s.follower }

// Watch says which devices are watched from now on, instead of those before;
// none: nobody watches. The set must not be changed any more. What a transaction
// commits that begins later is heard of, in any case.
func (f *Follower) Watch(devices map[int32]struct{}) {
	if len(devices) == 0 {
		f.watched.Store(nil)
	} else {
		f.watched.Store(&devices)
	}
}

// Take hands out what was committed since it was last called.
func (f *Follower) Take(yield func(News)) {
	f.taking.Lock()
	defer f.taking.Unlock()
	watched := f.watched.Load()
	var newest []Newest
	for i := range f.shards {
		shard := &f.shards[i]
		shard.mu.Lock()
		shard.news, shard.handing = shard.handing, shard.news
		shard.mu.Unlock()
		now := time.Now()
		for p, news := range shard.handing {
			if news.rows == 0 {
				if watched == nil {
					delete(shard.handing, p)
				} else if _, still := (*watched)[p.device]; !still {
					delete(shard.handing, p)
				}
				continue
			}
			newest = newest[:0]
			for j := range news.state.readings {
				newest = append(newest, news.state.readings[j].newest())
			}
			yield(News{Device: p.device, Layout: p.layout, Rows: news.rows, Readings: newest, Committed: now})
			news.rows = 0
			for j := range news.state.readings {
				news.state.readings[j].known = false
			}
		}
	}
}

func (r *reading) newest() Newest {
	n := Newest{Known: r.known, Time: r.time, Seq: r.seq, Number: r.number}
	if r.isText && r.text != nil {
		n.Text = *r.text
	}
	return n
}

// committed takes note of runs that this writer has committed. The rows are
// decoded here and now: they are the writer's buffer, which it needs again.
func (f *Follower) committed(writer int, runs []run) {
	watched := f.watched.Load()
	if watched == nil {
		return
	}
	shard := &f.shards[writer]
	shard.mu.Lock()
	defer shard.mu.Unlock()
	for i := range runs {
		r := &runs[i]
		if _, ok := (*watched)[r.pair.device]; !ok {
			continue
		}
		news := shard.news[r.pair]
		if news == nil {
			news = new(pairNews)
			shard.news[r.pair] = news
		}
		news.rows += r.count
		news.state.take(r)
	}
}
