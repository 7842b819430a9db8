package storage

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
)

// ErrGoneBack is matched by the errors of a Store whose database is not what it
// was: it was restored from a backup, or a standby took over that lacks the last
// commits. What the Store has in memory, the numbers of layouts above all, may
// then mean something else there, so it stores nothing any more. A new start
// reads everything anew, and devices send again what was not acknowledged.
var ErrGoneBack = errors.New("the database has lost what it had committed: it was restored, or a standby took over that lacks the last commits")

// errBehind: a standby may have yet to receive what is missing there.
var errBehind = errors.New("storage: a layout is not known to this standby")

const int4ArrayOID = 1007

// unseen lists the layouts of the runs whose numbers were not yet compared on
// this connection; mostly none.
func (w *writer) unseen() (list []int32) {
	last := int32(0) // no layout's number
	for i := range w.arranged.runs {
		number := w.arranged.runs[i].pair.layout
		if number == last {
			continue
		}
		last = number
		if _, seen := w.seen[number]; !seen {
			list = append(list, number)
		}
	}
	return list
}

// compareLayouts makes sure that the layouts of the rows at hand are in the
// database, under the numbers that are in memory. It asks once a connection and
// layout: a database that has gone back has ended its connections (decision 149).
func (w *writer) compareLayouts(ctx context.Context) error {
	unseen := w.unseen()
	if len(unseen) == 0 {
		return nil
	}
	known := w.store.layouts.fingerprints()
	order := binary.BigEndian
	numbers := appendArrayHead(nil, int4OID, len(unseen))[4:]
	for _, number := range unseen {
		numbers = order.AppendUint32(append(numbers, 0, 0, 0, 4), uint32(number))
	}
	result := w.conn.ExecParams(ctx, `SELECT id, fingerprint, pg_is_in_recovery() FROM unnest($1::int4[]) AS u (id)
		LEFT JOIN mooring.layouts l USING (id)`, [][]byte{numbers}, []uint32{int4ArrayOID}, []int16{1}, []int16{1, 1, 1})
	var missing []int32
	standby := false
	for result.NextRow() {
		values := result.Values()
		if len(values) != 3 || len(values[0]) != 4 || len(values[2]) != 1 {
			_, err := result.Close()
			return errors.Join(errors.New("storage: compare layouts: not as asked"), err)
		}
		number := int32(order.Uint32(values[0]))
		standby = values[2][0] != 0
		if fingerprint, ours := known[number]; ours && string(fingerprint[:]) != string(values[1]) {
			missing = append(missing, number)
		}
	}
	if _, err := result.Close(); err != nil {
		return fmt.Errorf("compare layouts: %w", err)
	}
	switch {
	case len(missing) > 0 && standby:
		return errBehind
	case len(missing) > 0:
		return w.store.goBack(fmt.Errorf("layouts %v are not there, or are others", missing))
	}
	if w.seen == nil {
		w.seen = make(map[int32]struct{})
	}
	for _, number := range unseen {
		w.seen[number] = struct{}{}
	}
	return nil
}

// goBack notes that the database has gone back and tells whoever wants to know, once.
func (s *Store) goBack(why error) error {
	err := fmt.Errorf("storage: %w: %w", ErrGoneBack, why)
	if s.goneBack.CompareAndSwap(nil, &err) && s.config.OnGoneBack != nil {
		s.config.OnGoneBack(err)
	}
	return *s.goneBack.Load()
}

// wentBack is ErrGoneBack's error; nil: the database is what it was, as far as known.
func (s *Store) wentBack() error {
	if err := s.goneBack.Load(); err != nil {
		return *err
	}
	return nil
}

// fingerprints are the layouts in memory, by number.
func (l *layouts) fingerprints() map[int32][32]byte {
	known := make(map[int32][32]byte, l.ids.Len())
	for _, fingerprint := range l.ids.Keys() {
		if number, ok := l.ids.Peek(fingerprint); ok {
			known[number] = fingerprint
		}
	}
	return known
}
