// Package storage lands samples in Postgres: every row exactly once, at the
// speed of COPY, and nothing reported as stored that is not committed.
//
// # Writing
//
// AppendRow encodes a row as a tuple of COPY's binary format; Write sends a
// batch of such tuples as they are. The usual way is one COPY into
// mooring.samples in one transaction. What stands in its way decides what
// happens next (classify.go names every class of error and its reason):
//
//   - no partition for a time: it is created, the batch goes again;
//   - a row that is stored already: what is stored is looked up, and the rest
//     copied; if that fails too, the batch goes through a temporary table and
//     INSERT … ON CONFLICT DO NOTHING;
//   - a row that Postgres refuses for good: the batch is halved until that row
//     stands alone in mooring.rejects, the others are stored;
//   - the answer to a commit is lost: the books tell what came of it (books.go);
//   - anything else: the batch waits and is tried again until ctx ends.
//
// # Goroutines
//
// Write runs on its caller's goroutine and on that writer's own connection;
// one call at a time per writer. Open starts five goroutines, which Close waits
// for: partition maintenance and retention, bookkeeping (last known values and
// wide views), the log of rejects, one that commits the layouts of devices in
// groups, and one that watches whether Postgres is there.
//
// # Reading
//
// Reader is for tools that check what was stored. People read SQL views, which
// are described in docs/SQL.md and made by the migrations.
package storage
