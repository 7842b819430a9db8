package storage

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"

	"github.com/jackc/pgx/v5/pgconn"

	"mooring/wire"
)

// Probe does to the samples table what a benchmark needs to know the database's
// own limits: plain COPY of encoded rows, without the marks, the classification
// and the retries of a Store, and questions about sizes and counts. It starts no
// goroutine. Each connection may be used by one caller at a time.
type Probe struct {
	sockets sockets
	copies  []*pgconn.PgConn
	admin   *pgconn.PgConn // asks, and empties
	super   *pgconn.PgConn // may CHECKPOINT

	attaching sync.Mutex // one partition at a time
	aside     []loaded   // what SetAside took out
}

// OpenProbe opens this many connections for COPY at url, one more for
// questions, and one at superuserURL, whose role must be allowed to CHECKPOINT;
// its database may be another one.
func OpenProbe(ctx context.Context, url, superuserURL string, connections int) (*Probe, error) {
	p := &Probe{copies: make([]*pgconn.PgConn, connections)}
	connect := func(slot **pgconn.PgConn, url string) (err error) {
		*slot, err = connectWriter(ctx, url, &p.sockets, 0, nil)
		return err
	}
	err := errors.Join(connect(&p.admin, url), connect(&p.super, superuserURL))
	for i := range p.copies {
		err = errors.Join(err, connect(&p.copies[i], url))
	}
	if err != nil {
		return nil, errors.Join(err, p.Close(ctx))
	}
	return p, nil
}

// Close closes the connections.
func (p *Probe) Close(ctx context.Context) error {
	var failed []error
	for _, conn := range append(slices.Clone(p.copies), p.admin, p.super) {
		if conn != nil {
			failed = append(failed, conn.Close(ctx))
		}
	}
	return errors.Join(failed...)
}

// AppendRow is Store.AppendRow.
func (*Probe) AppendRow(dst []byte, device, layout int32, row *wire.Row) []byte {
	return appendRow(dst, device, layout, row)
}

// Copy commits rows that AppendRow encoded, by one COPY over one of the
// connections, as it stands: any fault of a row fails the whole.
func (p *Probe) Copy(ctx context.Context, connection int, rows []byte) (int, error) {
	taken, err := copyPieces(ctx, p.copies[connection], copyIntoSamples, [][]byte{copyHeader, rows, copyTrailer})
	if err != nil {
		return 0, fmt.Errorf("storage: copy: %w", err)
	}
	return taken, nil
}

// Empty removes all samples and what is known of them. No Store may be open.
func (p *Probe) Empty(ctx context.Context) error {
	_, err := p.ask(ctx, "TRUNCATE mooring.samples, mooring.latest_pending, mooring.device_layouts")
	return err
}

// Checkpoint writes all that is dirty to disk, so that what is measured next
// does not pay for what was before.
func (p *Probe) Checkpoint(ctx context.Context) error {
	if _, err := p.super.Exec(ctx, "CHECKPOINT").ReadAll(); err != nil {
		return fmt.Errorf("storage: probe: %w", err)
	}
	return nil
}

// Change runs statements on the table that a benchmark is about to fill, as
// their owner.
func (p *Probe) Change(ctx context.Context, statements []string) error {
	for _, sql := range statements {
		if _, err := p.ask(ctx, sql); err != nil {
			return err
		}
	}
	return nil
}

// Administer runs a statement as superuser, such as ALTER SYSTEM.
func (p *Probe) Administer(ctx context.Context, sql string) error {
	if _, err := p.super.Exec(ctx, sql).ReadAll(); err != nil {
		return fmt.Errorf("storage: probe: %w", err)
	}
	return nil
}

// Sizes is what the samples take on disk.
type Sizes struct{ Heap, Index int64 } // bytes, of all partitions

// Sizes measures the table as it is now. Heap includes the maps of free space
// and visibility.
func (p *Probe) Sizes(ctx context.Context) (Sizes, error) {
	row, err := p.ask(ctx, `SELECT coalesce(sum(pg_table_size(relid)), 0)::int8, coalesce(sum(pg_indexes_size(relid)), 0)::int8
		FROM pg_partition_tree('mooring.samples') WHERE isleaf`)
	if err != nil {
		return Sizes{}, err
	}
	heap, faultHeap := strconv.ParseInt(row[0], 10, 64)
	index, faultIndex := strconv.ParseInt(row[1], 10, 64)
	return Sizes{Heap: heap, Index: index}, errors.Join(faultHeap, faultIndex)
}

// Rows counts the samples, one by one.
func (p *Probe) Rows(ctx context.Context) (int64, error) {
	return p.number(ctx, "SELECT count(*) FROM mooring.samples")
}

// Transactions is how many transactions the database has ended so far. A
// connection reports its own at most once a second, and when it has been idle
// for ten.
func (p *Probe) Transactions(ctx context.Context) (int64, error) {
	return p.number(ctx, "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()")
}

// LogPosition is how many bytes the database has ever written to its log.
func (p *Probe) LogPosition(ctx context.Context) (int64, error) {
	return p.number(ctx, "SELECT (pg_current_wal_insert_lsn() - '0/0')::int8")
}

// Setting is the value of a parameter, as SHOW prints it.
func (p *Probe) Setting(ctx context.Context, name string) (string, error) {
	row, err := p.ask(ctx, "SELECT current_setting($1)", name)
	if err != nil {
		return "", err
	}
	return row[0], nil
}

func (p *Probe) number(ctx context.Context, sql string) (int64, error) {
	row, err := p.ask(ctx, sql)
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(row[0], 10, 64)
}

// ask gives the first row of a query's result.
func (p *Probe) ask(ctx context.Context, sql string, args ...string) ([]string, error) {
	var values [][]byte
	for _, arg := range args {
		values = append(values, []byte(arg))
	}
	result := p.admin.ExecParams(ctx, sql, values, nil, nil, nil).Read()
	if result.Err != nil {
		return nil, fmt.Errorf("storage: probe: %w", result.Err)
	}
	if len(result.Rows) == 0 {
		return nil, nil
	}
	var row []string
	for _, value := range result.Rows[0] {
		row = append(row, string(value))
	}
	return row, nil
}
