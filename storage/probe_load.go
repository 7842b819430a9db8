package storage

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// loaded is a partition with rows that is in the table, or set aside.
type loaded struct{ table, bounds string }

// Know notes that devices use a layout, as if each had sent rows before: a
// server that starts then asks nothing for the first row of each.
func (p *Probe) Know(ctx context.Context, devices []int32, layout int32) error {
	var list strings.Builder
	for i, device := range devices {
		if i > 0 {
			list.WriteByte(',')
		}
		list.WriteString(strconv.Itoa(int(device)))
	}
	_, err := p.ask(ctx, `INSERT INTO mooring.device_layouts (device_id, layout_id)
		SELECT unnest($1::int4[]), $2::int4 ON CONFLICT DO NOTHING`, "{"+list.String()+"}", strconv.Itoa(int(layout)))
	return err
}

// Load makes the partition of a day, in UTC, and fills it with what next gives,
// encoded as by AppendRow, until that is empty. It is the quick way to many old
// rows: COPY … FREEZE into a table of its own, whose indexes are built when it
// is attached. What is there at the end is what batches, and a VACUUM later,
// would have left, but for a packed index. Several may run at once, each with a
// connection of its own.
func (p *Probe) Load(ctx context.Context, connection int, day time.Time, next func() []byte) error {
	s := span{from: PartitionDay.floor(day)}
	s.to = PartitionDay.next(s.from)
	part := loaded{
		table:  "mooring." + partitionName(s),
		bounds: fmt.Sprintf("FOR VALUES FROM ('%s') TO ('%s')", s.from.Format(time.RFC3339), s.to.Format(time.RFC3339)),
	}
	conn := p.copies[connection]
	// Removed rows need not be frozen; COPY … FREEZE wants a table of its own transaction.
	if err := perform(ctx, conn, "BEGIN; CREATE TABLE "+part.table+
		" (LIKE mooring.samples INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING STORAGE)"); err != nil {
		return err
	}
	stream := &pulledRows{next: next, rest: copyHeader}
	defer stream.release()
	if _, err := conn.CopyFrom(ctx, stream, "COPY "+part.table+" "+copyColumns+" FROM STDIN (FORMAT binary, FREEZE)"); err != nil {
		return fmt.Errorf("storage: load %s: %w", part.table, err)
	}
	if err := perform(ctx, conn, "COMMIT"); err != nil {
		return err
	}
	p.attaching.Lock()
	defer p.attaching.Unlock()
	return p.attach(ctx, conn, part)
}

// attach makes a table a partition, and builds what indexes it lacks. Rows are
// counted by ANALYZE at the end, as autovacuum would do while others measure.
func (p *Probe) attach(ctx context.Context, conn *pgconn.PgConn, part loaded) error {
	return perform(ctx, conn, "SET maintenance_work_mem = '512MB'; ALTER TABLE mooring.samples ATTACH PARTITION "+part.table+" "+part.bounds+
		"; ANALYZE "+part.table+"; RESET maintenance_work_mem")
}

// SetAside takes all partitions out of the table, which is empty then; Drop drops
// them. No Store may be open. The next one to open makes new partitions.
func (p *Probe) SetAside(ctx context.Context) error {
	parts, err := p.partitions(ctx)
	if err != nil {
		return err
	}
	for _, part := range parts {
		aside := strings.Replace(part.table, "samples_", "aside_", 1)
		if err := perform(ctx, p.admin, "ALTER TABLE mooring.samples DETACH PARTITION "+part.table+
			"; ALTER TABLE "+part.table+" RENAME TO "+strings.TrimPrefix(aside, "mooring.")); err != nil {
			return err
		}
		p.aside = append(p.aside, loaded{table: aside, bounds: part.bounds})
	}
	return nil
}

// Drop drops all partitions, also those set aside. No Store may be open. The
// next one to open makes new partitions.
func (p *Probe) Drop(ctx context.Context) error {
	if err := p.dropPartitions(ctx); err != nil {
		return err
	}
	for _, part := range p.aside {
		if err := perform(ctx, p.admin, "DROP TABLE "+part.table); err != nil {
			return err
		}
	}
	p.aside = nil
	return nil
}

func (p *Probe) dropPartitions(ctx context.Context) error {
	parts, err := p.partitions(ctx)
	if err != nil {
		return err
	}
	for _, part := range parts {
		if err := perform(ctx, p.admin, "DROP TABLE "+part.table); err != nil {
			return err
		}
	}
	return nil
}

// partitions lists those of the table, the oldest first.
func (p *Probe) partitions(ctx context.Context) ([]loaded, error) {
	result := p.admin.ExecParams(ctx, `SELECT c.oid::regclass::text, pg_get_expr(c.relpartbound, c.oid)
		FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
		WHERE i.inhparent = 'mooring.samples'::regclass ORDER BY c.relname`, nil, nil, nil, nil).Read()
	if result.Err != nil {
		return nil, fmt.Errorf("storage: probe: %w", result.Err)
	}
	var parts []loaded
	for _, row := range result.Rows {
		parts = append(parts, loaded{table: string(row[0]), bounds: string(row[1])})
	}
	return parts, nil
}

func perform(ctx context.Context, conn *pgconn.PgConn, sql string) error {
	if _, err := conn.Exec(ctx, sql).ReadAll(); err != nil {
		return fmt.Errorf("storage: probe: %w", err)
	}
	return nil
}

// Shift moves encoded rows ahead in place: their times by so many µs, their
// numbers by so many. It is the cheap way to make more rows of the same devices.
func (*Probe) Shift(rows []byte, micros int64, numbers uint64) error {
	for len(rows) > 0 {
		row, rest, err := firstRow(rows)
		if err != nil {
			return err
		}
		order := binary.BigEndian
		order.PutUint64(row[offsetTime:], order.Uint64(row[offsetTime:])+uint64(micros))
		order.PutUint64(row[offsetSeq:], row.seq()+numbers)
		rows = rest
	}
	return nil
}

// AppendShifted appends a copy of encoded rows to dst, moved as by Shift, as rows of
// that device: what a benchmark copies costs next to nothing to make.
func (p *Probe) AppendShifted(dst, rows []byte, device int32, micros int64, numbers uint64) ([]byte, error) {
	at := len(dst)
	dst = append(dst, rows...)
	for rest := dst[at:]; len(rest) > 0; {
		row, after, err := firstRow(rest)
		if err != nil {
			return nil, err
		}
		binary.BigEndian.PutUint32(row[offsetDevice:], uint32(device))
		rest = after
	}
	return dst, p.Shift(dst[at:], micros, numbers)
}

// pulledRows is a COPY stream of rows that are made as they are wanted. pgconn
// may go on reading after a failure: release ends that.
type pulledRows struct {
	mu    sync.Mutex
	next  func() []byte
	rest  []byte
	ended bool // the trailer is under way
}

func (s *pulledRows) Read(into []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.rest) == 0 && !s.ended && s.next != nil {
		if s.rest = s.next(); len(s.rest) == 0 {
			s.rest, s.ended = slices.Clone(copyTrailer), true
		}
	}
	if len(s.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(into, s.rest)
	s.rest = s.rest[n:]
	return n, nil
}

func (s *pulledRows) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next, s.rest = nil, nil
}
