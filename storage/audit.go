package storage

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// ErrNoBooks is matched by the error for a device that does not exist.
var ErrNoBooks = errors.New("no such device")

// Books say what became of the rows that were received of a device, or of all:
// a row of the view mooring.books.
type Books struct {
	Received  int64 // rows, again included
	Committed int64
	Duplicate int64 // stored before
	Refused   int64 // whole rows
	Returned  int64 // not acknowledged when the session ended: the device still has them
	Waiting   int64 // not yet stored

	// Difference is Received less all the others. It is 0 unless something is
	// wrong. In all, the devices' differences without their signs.
	Difference int64
	// Unreported are stored rows that no session's record mentions yet, or none
	// ever will, because its server died.
	Unreported int64
	Lost       int64 // given up by the device, not part of the sum
	Open       int64 // sessions
	Incomplete int64 // sessions that ended without last counts
	Older      bool  // the device had rows before the books began
}

// DeviceBooks are the books of one device.
type DeviceBooks struct {
	Device string
	Books
}

const booksColumns = `received::int8, committed::int8, duplicate::int8, refused::int8, returned::int8, waiting::int8,
	difference::int8, unreported::int8, lost_by_device::int8, open_sessions::int8, incomplete_sessions::int8, older`

func (b *Books) columns() []any {
	return []any{
		&b.Received, &b.Committed, &b.Duplicate, &b.Refused, &b.Returned, &b.Waiting,
		&b.Difference, &b.Unreported, &b.Lost, &b.Open, &b.Incomplete, &b.Older,
	}
}

// Books reads the books of a device.
func (r *Reader) Books(ctx context.Context, device string) (Books, error) {
	var b Books
	err := r.pool.QueryRow(ctx, "SELECT "+booksColumns+" FROM mooring.books WHERE device = $1", device).Scan(b.columns()...)
	if errors.Is(err, pgx.ErrNoRows) {
		return b, fmt.Errorf("%w: %s", ErrNoBooks, device)
	}
	if err != nil {
		return b, fmt.Errorf("storage: books of %s: %w", device, err)
	}
	return b, nil
}

// AllBooks calls yield with the books of every device, in the order of their
// names, all as of one moment, until yield returns an error, which AllBooks
// returns.
func (r *Reader) AllBooks(ctx context.Context, yield func(DeviceBooks) error) error {
	rows, err := r.pool.Query(ctx, "SELECT device, "+booksColumns+" FROM mooring.books ORDER BY device")
	if err != nil {
		return fmt.Errorf("storage: books: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var b DeviceBooks
		if err := rows.Scan(append([]any{&b.Device}, b.columns()...)...); err != nil {
			return fmt.Errorf("storage: books: %w", err)
		}
		if err := yield(b); err != nil {
			return err
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("storage: books: %w", err)
	}
	return nil
}

// Add adds the books of a device to those of all.
func (b *Books) Add(device Books) {
	b.Received += device.Received
	b.Committed += device.Committed
	b.Duplicate += device.Duplicate
	b.Refused += device.Refused
	b.Returned += device.Returned
	b.Waiting += device.Waiting
	b.Difference += max(device.Difference, -device.Difference)
	b.Unreported += device.Unreported
	b.Lost += device.Lost
	b.Open += device.Open
	b.Incomplete += device.Incomplete
	b.Older = b.Older || device.Older
}

// Recount counts the rows of a device that are stored now: as many as
// Books.Committed says, but for those that retention dropped, and, if
// Books.Older, those from before. It reads the whole index of the device.
func (r *Reader) Recount(ctx context.Context, device string) (rows int64, err error) {
	err = r.pool.QueryRow(ctx, `SELECT count(*) FROM mooring.samples
		WHERE device_id = (SELECT id FROM mooring.devices WHERE name = $1)`, device).Scan(&rows)
	if err != nil {
		return 0, fmt.Errorf("storage: count the rows of %s: %w", device, err)
	}
	return rows, nil
}
