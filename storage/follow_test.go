package storage

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"mooring/internal/pgtest"
	"mooring/wire"
)

// take collects what a follower hands out.
func take(f *Follower) (list []News) {
	f.Take(func(news News) {
		news.Readings = slices.Clone(news.Readings)
		for i := range news.Readings {
			news.Readings[i].Text = slices.Clone(news.Readings[i].Text)
		}
		list = append(list, news)
	})
	return list
}

// TestFollowerHearsOfCommits: of watched devices, once they are committed, the
// newest reading of every channel and the number of rows; of nothing else.
func TestFollowerHearsOfCommits(t *testing.T) {
	t.Parallel()
	f := newFixture(t, pgtest.URL(t))
	follower := f.Follower()
	var b batch
	b.add(f.devices[0], f.mixed, 1, base, number(1), boolean(true), text("a"))
	f.write(t, &b)
	require.Empty(t, take(follower), "nobody watches")

	follower.Watch(map[int32]struct{}{f.devices[0]: {}})
	b = batch{}
	b.add(f.devices[0], f.mixed, 2, base+20, number(2), boolean(false), wire.Value{})
	b.add(f.devices[0], f.mixed, 3, base+10, number(9), boolean(true), text("b"))
	b.add(f.devices[1], f.mixed, 1, base, number(1), boolean(true), text("a"))
	f.write(t, &b)
	list := take(follower)
	require.Len(t, list, 1)
	require.Equal(t, 2, list[0].Rows)
	require.Equal(t, f.devices[0], list[0].Device)
	require.Equal(t, f.mixed, list[0].Layout)
	require.Equal(t, []Newest{
		{Known: true, Time: base + 20, Seq: 2, Number: 2},
		{Known: true, Time: base + 20, Seq: 2},
		{Known: true, Time: base + 10, Seq: 3, Text: []byte("b")},
	}, list[0].Readings)
	require.Empty(t, take(follower), "once")

	// What is in the table already is no news, but for what came with it.
	b.add(f.devices[0], f.mixed, 4, base+30, number(4), boolean(true), text("c"))
	f.write(t, &b)
	list = take(follower)
	require.Len(t, list, 1)
	require.Equal(t, 1, list[0].Rows)
	require.InDelta(t, 4, list[0].Readings[0].Number, 0)

	follower.Watch(nil)
	b = batch{}
	b.add(f.devices[0], f.mixed, 5, base+40, number(1), boolean(true), text("a"))
	f.write(t, &b)
	require.Empty(t, take(follower))
	require.Empty(t, take(follower))
	require.Empty(t, follower.shards[0].news, "what is watched no more is forgotten")
	require.Empty(t, follower.shards[0].handing)
}

// TestFollowerHearsOnlyOfCommits: a batch that Postgres does not take is no news
// until it does, and a row that it refuses for good never is.
func TestFollowerHearsOnlyOfCommits(t *testing.T) {
	t.Parallel()
	f := newFixture(t, pgtest.URL(t))
	follower := f.Follower()
	follower.Watch(map[int32]struct{}{f.devices[0]: {}, f.devices[1]: {}})
	execute(t, f.url, "ALTER TABLE mooring.samples ADD CONSTRAINT no_thirteen CHECK (vals[1] <> 13)")
	var b batch
	b.add(f.devices[0], f.numbers, 1, base, number(1))
	b.add(f.devices[0], f.numbers, 2, base+1, number(13))
	b.add(f.devices[1], f.numbers, 1, base, number(13))
	outcome := f.write(t, &b)
	require.Len(t, outcome.Rejected, 2)
	list := take(follower)
	require.Len(t, list, 1)
	require.Equal(t, 1, list[0].Rows)
	require.InDelta(t, 1, list[0].Readings[0].Number, 0)
}

// TestRowsSince gives what lies behind a mark.
func TestRowsSince(t *testing.T) {
	t.Parallel()
	f := newFixture(t, pgtest.URL(t))
	var b batch
	b.series(f.devices[0], f.numbers, 1, 10)
	b.add(f.devices[1], f.mixed, 1, base, number(1), boolean(true), text("a"))
	f.write(t, &b)
	reader, err := OpenReader(t.Context(), f.url)
	require.NoError(t, err)
	defer reader.Close()
	since := func(most int, marks ...Mark) (seqs []uint64, last News) {
		require.NoError(t, reader.RowsSince(t.Context(), marks, most, func(news News) error {
			seqs, last = append(seqs, news.Readings[0].Seq), news
			return nil
		}))
		return seqs, last
	}
	seqs, last := since(100, Mark{Device: f.devices[0], Time: base + 8000, Seq: 8})
	require.Equal(t, []uint64{9, 10}, seqs)
	require.InDelta(t, 10, last.Readings[0].Number, 0)
	seqs, _ = since(3, Mark{Device: f.devices[0], Time: NothingKnown})
	require.Equal(t, []uint64{8, 9, 10}, seqs, "the newest, oldest first")
	seqs, last = since(5, Mark{Device: f.devices[0], Time: base + 10_000, Seq: 10}, Mark{Device: f.devices[1], Time: NothingKnown})
	require.Equal(t, []uint64{1}, seqs)
	require.Equal(t, "a", string(last.Readings[2].Text))
	var latest []LatestReading
	require.NoError(t, reader.LatestOf(t.Context(), f.devices, func(r LatestReading) error {
		latest = append(latest, r)
		return nil
	}))
	require.Len(t, latest, 8)
	require.Equal(t, LatestReading{Device: f.devices[0], Metric: "c1", Time: base + 10_000, Value: 10}, latest[0])
}
