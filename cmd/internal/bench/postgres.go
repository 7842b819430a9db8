package bench

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"mooring/storage"
	"mooring/wire"
)

// variant is one way to have PostgreSQL store rows. Zero values are today's.
type variant struct {
	name        string
	batch       int            // rows; defaults to those of a server under load
	connections int            // defaults to 2
	together    int            // rows of a device one behind the other; 0: all that a batch holds
	spacing     int64          // ms between rows of a device; defaults to 1
	do          []string       // SQL on the empty table
	system      map[string]any // parameters that PostgreSQL takes over while it runs
}

// usualBatch is about what a server's writer takes at once when it is kept busy.
const usualBatch = 8000

// question is what some variants answer together. They run in turn, round by
// round, so that what else the machine does meets all of them.
type question struct {
	name     string
	variants []variant
}

// onPartitions is SQL for every partition; %s is its name.
func onPartitions(sql string) string {
	return `DO $$ DECLARE t regclass; BEGIN
		FOR t IN SELECT relid FROM pg_partition_tree('mooring.samples') WHERE isleaf LOOP
			EXECUTE format('` + sql + `', t);
		END LOOP; END $$`
}

// onKeys is SQL for the primary key's index of every partition.
func onKeys(sql string) string {
	return `DO $$ DECLARE t regclass; BEGIN
		FOR t IN SELECT indexrelid FROM pg_index WHERE indisprimary AND indrelid IN (SELECT relid FROM pg_partition_tree('mooring.samples') WHERE isleaf) LOOP
			EXECUTE format('` + sql + `', t);
		END LOOP; END $$`
}

// repartition is SQL that gives the table partitions of a width, from now for a
// month.
func repartition(width string) string {
	return `DO $$ DECLARE t regclass; at timestamptz := date_trunc('` + width + `', now()); BEGIN
		FOR t IN SELECT relid FROM pg_partition_tree('mooring.samples') WHERE isleaf LOOP
			EXECUTE format('DROP TABLE %s', t);
		END LOOP;
		WHILE at < now() + interval '32 days' LOOP
			EXECUTE format('CREATE TABLE mooring.samples_%s PARTITION OF mooring.samples FOR VALUES FROM (%L) TO (%L)',
				to_char(at, 'YYYYMMDDHH24'), at, at + interval '1 ` + width + `');
			at := at + interval '1 ` + width + `';
		END LOOP; END $$`
}

// dayWide makes the partitions as they were.
var dayWide = repartition("day")

// month is how far apart rows of a device are for 6,000 of them to fill four weeks.
const month = 28 * 24 * 3600 * 1000 / 6000

// questions are those whose answers are in docs/decisions, 080 to 089.
var questions = []question{
	{"postgres-batch", []variant{
		{name: "500", batch: 500},
		{name: "2000", batch: 2000},
		{name: "8000", batch: 8000},
		{name: "32000", batch: 32_000},
	}},
	{"postgres-connections", []variant{
		{name: "1", connections: 1},
		{name: "2", connections: 2},
		{name: "3", connections: 3},
		{name: "4", connections: 4},
	}},
	{"postgres-order", []variant{
		{name: "together"},
		{name: "ten", together: 10},
		{name: "one", together: 1},
	}},
	{"postgres-brin", []variant{
		{name: "brin"},
		{name: "brin_by_hand", do: []string{onPartitionsBrin("SET (autosummarize = off)")}},
		{name: "none", do: []string{"DROP INDEX mooring.samples_ts"}},
	}},
	{"postgres-fillfactor", []variant{
		{name: "heap100_key90"},
		{name: "heap90", do: []string{onPartitions("ALTER TABLE %s SET (fillfactor = 90)")}},
		{name: "key100", do: []string{onKeys("ALTER INDEX %s SET (fillfactor = 100)")}},
		{name: "key70", do: []string{onKeys("ALTER INDEX %s SET (fillfactor = 70)")}},
	}},
	// Checkpoints as often as can be: pages go to the log whole after each.
	{"postgres-wal", []variant{
		{name: "none", system: map[string]any{"wal_compression": "off", "max_wal_size": "64MB", "min_wal_size": "64MB"}},
		{name: "pglz", system: map[string]any{"wal_compression": "pglz", "max_wal_size": "64MB", "min_wal_size": "64MB"}},
		{name: "lz4", system: map[string]any{"wal_compression": "lz4", "max_wal_size": "64MB", "min_wal_size": "64MB"}},
	}},
	{"postgres-partitions", []variant{
		{name: "hour", spacing: month, do: []string{repartition("hour")}},
		{name: "day", spacing: month, do: []string{repartition("day")}},
		{name: "week", spacing: month, do: []string{repartition("week")}},
		{name: "month", spacing: month, do: []string{repartition("month")}},
	}},
	{"postgres-commit", []variant{
		{name: "on"},
		{name: "off", system: map[string]any{"synchronous_commit": "off"}},
		{name: "on_small", batch: 500},
		{name: "off_small", batch: 500, system: map[string]any{"synchronous_commit": "off"}},
		{name: "delay_small", batch: 500, connections: 4, system: map[string]any{"commit_delay": 1000, "commit_siblings": 2}},
		{name: "on_small_4", batch: 500, connections: 4},
	}},
	{"postgres-checkpoint", []variant{
		{name: "4GB"},
		{name: "1GB", system: map[string]any{"max_wal_size": "1GB", "min_wal_size": "256MB"}},
		{name: "no_autovacuum", do: []string{onPartitions("ALTER TABLE %s SET (autovacuum_enabled = off)")}},
	}},
	{"postgres-asis", []variant{{name: "asis"}}}, // for settings that need a start
}

// onPartitionsBrin changes the BRIN index of every partition.
func onPartitionsBrin(change string) string {
	return `DO $$ DECLARE t regclass; BEGIN
		FOR t IN SELECT i.indexrelid FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a ON a.oid = c.relam
			WHERE a.amname = 'brin' AND i.indrelid IN (SELECT relid FROM pg_partition_tree('mooring.samples') WHERE isleaf) LOOP
			EXECUTE format('ALTER INDEX %s ` + change + `', t);
		END LOOP; END $$`
}

// stored is what a variant came to, all rounds together.
type storedBy struct {
	rows       int
	elapsed    time.Duration
	used       time.Duration
	log        int64 // bytes of write-ahead log
	disk       int64 // bytes of heap and index, of the last round
	lastRows   int
	throughput []float64
}

// answer measures the variants of a question.
func (b *bench) answer(ctx context.Context, q question) (s Scenario, err error) {
	probe, err := storage.OpenProbe(ctx, b.cluster.URL(), b.cluster.SuperuserURL(), 4)
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, probe.Close(ctx)) }()
	if _, err := b.series(ctx, tenRows, b.cfg.Devices, usualBatch, 0, 1); err != nil {
		return s, err
	}
	got := make([]storedBy, len(q.variants))
	for round := range b.cfg.Rounds + 1 {
		for i := range q.variants {
			// Nothing counts of a first round: the log's files and the memory are new to all.
			if round == 0 && i > 0 {
				break
			}
			b.say("%s: %s, round %d of %d", q.name, q.variants[i].name, round, b.cfg.Rounds)
			into := &got[i]
			if round == 0 {
				into = &storedBy{}
			}
			if err := b.storeBy(ctx, probe, &q.variants[i], into); err != nil {
				return s, fmt.Errorf("%s: %w", q.variants[i].name, err)
			}
		}
	}
	for i := range got {
		g, name := &got[i], q.variants[i].name
		slices.Sort(g.throughput)
		rows := float64(g.rows)
		s.add(name+"_rows_per_s", g.throughput[len(g.throughput)/2])
		s.add(name+"_postgres_cpu_us_per_row", float64(g.used.Nanoseconds())/1000/rows)
		s.add(name+"_log_bytes_per_row", float64(g.log)/rows)
		s.add(name+"_bytes_per_reading", float64(g.disk)/float64(g.lastRows*tenRows.channels))
	}
	s.note("%s: plain COPY of %d rows × %d channels of %d devices each time, %d rounds in turn; rows a second: the median", q.name, b.cfg.StorageRows, tenRows.channels, b.cfg.Devices, b.cfg.Rounds)
	return s, nil
}

// storeBy stores rows once by a variant. It puts everything back as it was.
func (b *bench) storeBy(ctx context.Context, probe *storage.Probe, v *variant, into *storedBy) (err error) {
	if err := b.fresh(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, probe.Change(ctx, undo(v)), resetSystem(ctx, probe, v)) }()
	for name, value := range v.system {
		if err := probe.Administer(ctx, fmt.Sprintf("ALTER SYSTEM SET %s = '%v'", name, value)); err != nil {
			return err
		}
	}
	if err := errors.Join(probe.Administer(ctx, "SELECT pg_reload_conf()"), probe.Change(ctx, v.do)); err != nil {
		return err
	}
	if err := sleep(ctx, 300*time.Millisecond); err != nil { // the new parameters reach every process
		return err
	}
	empty, err := probe.Sizes(ctx)
	if err != nil {
		return err
	}
	logBefore, err := probe.LogPosition(ctx)
	if err != nil {
		return err
	}
	before, err := treeTime(b.cluster.Info().PID)
	if err != nil {
		return err
	}
	connections := max(v.connections, 1)
	if v.connections == 0 {
		connections = 2
	}
	begun := time.Now()
	counts, faults := make([]int, connections), make([]error, connections)
	var running sync.WaitGroup
	for i := range connections {
		running.Go(func() { counts[i], faults[i] = b.storePart(ctx, probe, v, i, connections) })
	}
	running.Wait()
	elapsed := time.Since(begun)
	if err := errors.Join(faults...); err != nil {
		return err
	}
	after, err := treeTime(b.cluster.Info().PID)
	if err != nil {
		return err
	}
	logAfter, err := probe.LogPosition(ctx)
	if err != nil {
		return err
	}
	full, err := probe.Sizes(ctx)
	if err != nil {
		return err
	}
	into.lastRows = 0
	for _, count := range counts {
		into.lastRows += count
	}
	into.rows += into.lastRows
	into.elapsed += elapsed
	into.used += after - before
	into.log += logAfter - logBefore
	into.disk = full.Heap + full.Index - empty.Heap - empty.Index
	into.throughput = append(into.throughput, float64(into.lastRows)/elapsed.Seconds())
	return nil
}

// storePart copies one connection's share of the rows.
func (b *bench) storePart(ctx context.Context, probe *storage.Probe, v *variant, part, parts int) (count int, err error) {
	batch, spacing := v.batch, max(v.spacing, 1)
	if batch == 0 {
		batch = usualBatch
	}
	source, err := b.series(ctx, tenRows, b.cfg.Devices, batch, part, parts)
	if err != nil {
		return 0, err
	}
	together := v.together
	if together == 0 {
		together = max(1, batch/len(source.ids))
	}
	var rows []byte
	var values []wire.Value
	for count < b.cfg.StorageRows/parts && ctx.Err() == nil {
		rows = rows[:0]
		for n := 0; n < batch; n += together {
			for range together {
				row := tenRows.row(0, source.next[source.cursor], values)
				row.Time = (source.base + int64(row.Seq)*spacing) * 1000
				values = row.Values
				rows = probe.AppendRow(rows, source.ids[source.cursor], source.layout, &row)
				source.next[source.cursor]++
			}
			source.cursor = (source.cursor + 1) % len(source.ids)
		}
		taken, err := probe.Copy(ctx, part, rows)
		if err != nil {
			return 0, err
		}
		count += taken
	}
	return count, ctx.Err()
}

// undo is SQL that takes back what a variant changed.
func undo(v *variant) []string {
	changed := strings.Join(v.do, ";")
	switch {
	case changed == "":
		return nil
	case strings.Contains(changed, "DROP INDEX"):
		return []string{"CREATE INDEX samples_ts ON mooring.samples USING brin (ts) WITH (autosummarize = on)"}
	}
	return []string{dayWide} // new partitions have the usual parameters
}

func resetSystem(ctx context.Context, probe *storage.Probe, v *variant) (err error) {
	for name := range v.system {
		err = errors.Join(err, probe.Administer(ctx, "ALTER SYSTEM RESET "+name))
	}
	return errors.Join(err, probe.Administer(ctx, "SELECT pg_reload_conf()"))
}

// written: what a reading takes on disk when the server wrote it, under the load
// of many devices.
func (b *bench) written(ctx context.Context) (s Scenario, err error) {
	for _, channels := range []int{5, 10} {
		b.say("storage-server: %d channels", channels)
		if _, err := b.layout(ctx, channels); err != nil {
			return s, err
		}
		if err := b.fresh(ctx); err != nil {
			return s, err
		}
		empty, err := b.probe.Sizes(ctx)
		if err != nil {
			return s, err
		}
		o, err := b.saturated(ctx, shape{rows: 10, channels: channels}, b.cfg.SteadyDevices, "storage-server")
		if err != nil {
			return s, err
		}
		full, err := b.probe.Sizes(ctx)
		if err != nil {
			return s, err
		}
		rows, err := b.probe.Rows(ctx)
		if err != nil {
			return s, err
		}
		readings := float64(rows) * float64(channels)
		heap, index := float64(full.Heap-empty.Heap), float64(full.Index-empty.Index)
		s.add(fmt.Sprintf("bytes_per_reading_%d", channels), (heap+index)/readings)
		s.add(fmt.Sprintf("index_bytes_per_reading_%d", channels), index/readings)
		s.add(fmt.Sprintf("rows_%d", channels), float64(rows))
		s.add(fmt.Sprintf("batch_rows_%d", channels), o.batchRows)
	}
	s.note("storage-server: %d devices, frames of ten rows as fast as their windows allow, written by the server", b.cfg.SteadyDevices)
	return s, nil
}

// onDemand are the scenarios that run only when they are named.
func onDemand() []scenario {
	list := []scenario{{"storage-server", (*bench).written}, {"live", (*bench).watched}}
	for _, q := range questions {
		list = append(list, scenario{q.name, func(b *bench, ctx context.Context) (Scenario, error) { return b.answer(ctx, q) }})
	}
	return list
}
