package storage

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"mooring/wire"
)

// Reader reads what was stored, for tools that check it. Its memory does not
// grow with what it reads. It needs no rights beyond those of mooring_reader.
type Reader struct {
	pool    *pgxpool.Pool
	sockets *sockets
}

// Sample is one stored row.
type Sample struct {
	Time     int64 // µs since 1970
	Seq      uint64
	Layout   string         // name of its layout
	Channels []wire.Channel // of its layout; shared between samples, not to be changed
	Values   []wire.Value   // one per channel: ValueNil, ValueNumber, ValueBool or ValueText
}

// StoredReject is one row of mooring.rejects.
type StoredReject struct {
	At      time.Time
	Seq     uint64 // the first of N rows
	N       uint64
	Channel string // empty: the rows themselves
	Code    string // as wire.Code.String, or NOT_RECORDED: N refusals summed up
	Detail  string
	Raw     []byte // beginning of the frame
}

// readerApplication is the name of a reader's connections.
const readerApplication = "mooring reader"

// OpenReader connects to a migrated database, over two connections at most.
func OpenReader(ctx context.Context, url string) (*Reader, error) {
	return OpenReaders(ctx, url, 2)
}

// OpenReaders is OpenReader for that many readers at once.
func OpenReaders(ctx context.Context, url string, connections int) (*Reader, error) {
	open := new(sockets)
	pool, err := newPool(ctx, url, readerApplication, open, int32(connections))
	if err != nil {
		return nil, err
	}
	if err := pool.Ping(ctx); err != nil {
		pool.Close()
		return nil, fmt.Errorf("storage: reach the database: %w", err)
	}
	return &Reader{pool: pool, sockets: open}, nil
}

// Close closes the connections. It does not wait for a database that does not
// answer: after a second it cuts them.
func (r *Reader) Close() {
	timer := time.AfterFunc(time.Second, r.sockets.cutAll)
	defer timer.Stop()
	r.pool.Close()
}

type storedLayout struct {
	name     string
	channels []wire.Channel
}

// Samples calls yield with every stored row of a device, ordered by time and
// sequence number, until yield returns an error, which Samples returns. The
// sample's Values and texts are valid until yield returns.
func (r *Reader) Samples(ctx context.Context, device string, yield func(Sample) error) error {
	layouts, err := r.layouts(ctx, device)
	if err != nil {
		return err
	}
	rows, err := r.pool.Query(ctx, `SELECT s.ts, s.seq, s.layout_id, s.vals, s.texts FROM mooring.samples s
		WHERE s.device_id = (SELECT id FROM mooring.devices WHERE name = $1) ORDER BY s.ts, s.seq`, device)
	if err != nil {
		return fmt.Errorf("storage: samples of %s: %w", device, err)
	}
	defer rows.Close()
	var at time.Time
	var seq int64
	var id int32
	var vals pgtype.FlatArray[pgtype.Float8]
	var texts pgtype.FlatArray[pgtype.Text]
	var values []wire.Value
	for rows.Next() {
		if err := rows.Scan(&at, &seq, &id, &vals, &texts); err != nil {
			return fmt.Errorf("storage: samples of %s: %w", device, err)
		}
		layout, known := layouts[id]
		if !known { // declared since
			if layouts, err = r.layouts(ctx, device); err != nil {
				return err
			}
			layout = layouts[id]
		}
		values = appendValues(values[:0], layout.channels, vals, texts)
		err := yield(Sample{Time: at.UnixMicro(), Seq: uint64(seq), Layout: layout.name, Channels: layout.channels, Values: values})
		if err != nil {
			return err
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("storage: samples of %s: %w", device, err)
	}
	return nil
}

// appendValues puts numbers and texts together again.
func appendValues(dst []wire.Value, channels []wire.Channel, vals []pgtype.Float8, texts []pgtype.Text) []wire.Value {
	for i := range max(len(vals), len(texts)) {
		var value wire.Value
		switch {
		case i < len(texts) && texts[i].Valid:
			value = wire.Value{Kind: wire.ValueText, Text: []byte(texts[i].String)}
		case i < len(vals) && vals[i].Valid:
			value = wire.Value{Kind: wire.ValueNumber, Number: vals[i].Float64}
			if i < len(channels) && channels[i].Kind == wire.KindBool {
				value.Kind = wire.ValueBool
			}
		}
		dst = append(dst, value)
	}
	return dst
}

// layouts are those that the device has declared.
func (r *Reader) layouts(ctx context.Context, device string) (map[int32]storedLayout, error) {
	rows, err := r.pool.Query(ctx, `SELECT l.id, l.name, c.name, coalesce(c.unit, ''), c.kind, c.exp10
		FROM mooring.device_layouts p JOIN mooring.layouts l ON l.id = p.layout_id JOIN mooring.channels c ON c.layout_id = l.id
		WHERE p.device_id = (SELECT id FROM mooring.devices WHERE name = $1) ORDER BY l.id, c.pos`, device)
	if err != nil {
		return nil, fmt.Errorf("storage: layouts of %s: %w", device, err)
	}
	layouts := make(map[int32]storedLayout)
	var id int32
	var name string
	var channel wire.Channel
	var kind, exp10 int16
	_, err = pgx.ForEachRow(rows, []any{&id, &name, &channel.Name, &channel.Unit, &kind, &exp10}, func() error {
		channel.Kind, channel.Exp10 = wire.Kind(kind), int8(exp10)
		layouts[id] = storedLayout{name: name, channels: append(layouts[id].channels, channel)}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("storage: layouts of %s: %w", device, err)
	}
	return layouts, nil
}

// Rejects calls yield with every recorded refusal of a device, in the order in
// which they were recorded, until yield returns an error, which Rejects returns.
func (r *Reader) Rejects(ctx context.Context, device string, yield func(StoredReject) error) error {
	rows, err := r.pool.Query(ctx, `SELECT at, seq, n, coalesce(channel, ''), code, detail, raw FROM mooring.rejects
		WHERE device_id = (SELECT id FROM mooring.devices WHERE name = $1) ORDER BY id`, device)
	if err != nil {
		return fmt.Errorf("storage: rejects of %s: %w", device, err)
	}
	defer rows.Close()
	for rows.Next() {
		var reject StoredReject
		var seq, n int64
		if err := rows.Scan(&reject.At, &seq, &n, &reject.Channel, &reject.Code, &reject.Detail, &reject.Raw); err != nil {
			return fmt.Errorf("storage: rejects of %s: %w", device, err)
		}
		reject.Seq, reject.N = uint64(seq), uint64(n)
		if err := yield(reject); err != nil {
			return err
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("storage: rejects of %s: %w", device, err)
	}
	return nil
}

// Table runs one query and returns its result as psql would show it, with NULL
// as the empty string. It holds the whole result: for small ones.
func (r *Reader) Table(ctx context.Context, sql string, args ...any) (columns []string, table [][]string, err error) {
	// Text format throughout: the values as Postgres itself writes them.
	args = append([]any{pgx.QueryResultFormats{pgx.TextFormatCode}}, args...)
	err = r.pool.AcquireFunc(ctx, func(conn *pgxpool.Conn) error {
		// The reader's own search_path is as safe as it is; people expect it.
		if _, err := conn.Exec(ctx, "SET search_path = mooring, mooring_layout, public"); err != nil {
			return err
		}
		rows, err := conn.Query(ctx, sql, args...)
		if err != nil {
			return err
		}
		defer rows.Close()
		for _, field := range rows.FieldDescriptions() {
			columns = append(columns, field.Name)
		}
		for rows.Next() {
			line := make([]string, 0, len(columns))
			for _, raw := range rows.RawValues() {
				line = append(line, string(raw))
			}
			table = append(table, line)
		}
		return rows.Err()
	})
	if err != nil {
		return nil, nil, fmt.Errorf("storage: query: %w", err)
	}
	return columns, table, nil
}
