package storage

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// When a COPY fails because a row is stored already, Postgres names that row
// alone, and there may be others. So the rows that are stored are asked for, and
// the rest is copied (decision 081). Only the primary key decides what is stored
// once: a row that comes to be stored between question and COPY makes the COPY
// fail, and the batch takes the next way.

// look says of which rows it is asked, before a COPY, whether they are stored.
type look uint8

const (
	lookNone    look = iota
	lookResent       // those of devices that may be sending rows again
	lookAll          // all
	waryBatches = 16 // so many batches are looked up after one that held duplicates
)

// One search of the primary key for each device, over the time that its rows
// span: mostly nothing lies there. OFFSET keeps the planner from thinking of
// joins; $4 and $5 let it leave out partitions.
const selectStored = `SELECT s.device_id, s.ts, s.seq
	FROM unnest($1::int4[], $2::timestamptz[], $3::timestamptz[]) AS r (device, since, until)
	CROSS JOIN LATERAL (
		SELECT device_id, ts, seq FROM mooring.samples
		WHERE device_id = r.device AND ts >= r.since AND ts <= r.until AND ts >= $4 AND ts <= $5 OFFSET 0
	) AS s LIMIT $6`

// errManyStored means that so much is stored in the time that the batch spans
// that the answer would be larger than the batch.
var errManyStored = errors.New("storage: too much is stored in the time of the batch")

// identity is what makes a row.
type identity struct {
	device int32
	time   uint64 // as in COPY
	seq    uint64
}

// storedRows are rows that were found stored; nil: none.
type storedRows struct {
	devices map[int32]bool
	rows    map[identity]bool
}

func (k *storedRows) has(row encodedRow) bool {
	return k.rows[identity{row.device(), binary.BigEndian.Uint64(row[offsetTime:]), row.seq()}]
}

// The times that a timestamptz takes, µs since 2000.
const (
	firstPostgresTime = -211_813_488_000_000_000
	lastPostgresTime  = 9_223_371_331_200_000_000 - 1
)

const (
	int4OID        = 23
	timestamptzOID = 1184
)

// stored asks which rows of the runs are stored already; of devices in resent
// alone (sorted) unless all are wanted. It sees what was committed when asked.
func (w *writer) stored(ctx context.Context, runs []run, all bool, resent []int32) (*storedRows, error) {
	var asked []*run
	first, last, rows := int64(lastPostgresTime), int64(firstPostgresTime), 0
	clamp := func(unixMicros int64) int64 {
		return min(max(postgresTime(unixMicros), firstPostgresTime), lastPostgresTime)
	}
	for i := range runs {
		r := &runs[i]
		if !all {
			if _, found := slices.BinarySearch(resent, r.pair.device); !found {
				continue
			}
		}
		asked = append(asked, r)
		rows += r.count
		first, last = min(first, clamp(r.oldest)), max(last, clamp(r.newest))
	}
	if len(asked) == 0 {
		return nil, nil
	}
	order := binary.BigEndian
	array := func(oid uint32, size int, value func(*run) int64) []byte {
		dst := appendArrayHead(make([]byte, 0, 24+len(asked)*(4+size)), oid, len(asked))[4:]
		for _, r := range asked {
			if size == 4 {
				dst = order.AppendUint32(append(dst, 0, 0, 0, 4), uint32(value(r)))
			} else {
				dst = order.AppendUint64(append(dst, 0, 0, 0, 8), uint64(value(r)))
			}
		}
		return dst
	}
	limit := 2*rows + 1000
	result := w.conn.ExecParams(ctx, selectStored, [][]byte{
		array(int4OID, 4, func(r *run) int64 { return int64(r.pair.device) }),
		array(timestamptzOID, 8, func(r *run) int64 { return clamp(r.oldest) }),
		array(timestamptzOID, 8, func(r *run) int64 { return clamp(r.newest) }),
		order.AppendUint64(nil, uint64(first)),
		order.AppendUint64(nil, uint64(last)),
		order.AppendUint64(nil, uint64(limit)),
	}, []uint32{0, 0, 0, timestamptzOID, timestamptzOID, 20}, []int16{1, 1, 1, 1, 1, 1}, []int16{1, 1, 1})
	var known *storedRows
	count := 0
	for result.NextRow() {
		values := result.Values()
		if len(values) != 3 || len(values[0]) != 4 || len(values[1]) != 8 || len(values[2]) != 8 {
			_, err := result.Close()
			return nil, errors.Join(errors.New("storage: look up stored rows: not as asked"), err)
		}
		if known == nil {
			known = &storedRows{devices: make(map[int32]bool), rows: make(map[identity]bool)}
		}
		device := int32(order.Uint32(values[0]))
		known.devices[device] = true
		known.rows[identity{device, order.Uint64(values[1]), order.Uint64(values[2])}] = true
		count++
	}
	if _, err := result.Close(); err != nil {
		return nil, fmt.Errorf("look up stored rows: %w", err)
	}
	if count == limit {
		return nil, errManyStored
	}
	return known, nil
}
