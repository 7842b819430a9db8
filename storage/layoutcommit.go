package storage

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// commit finds or makes the layouts of a group and notes which devices use them,
// in one transaction of a few statements, however many there are. What is
// refused leaves nothing behind. Two servers may do the same at once: the unique
// keys decide, both get one number. Limits they may pass by a group then.
func (l *layouts) commit(ctx context.Context, group []*asking) (*groupOutcome, error) {
	var o *groupOutcome
	err := pgx.BeginFunc(ctx, l.pool, func(tx pgx.Tx) error {
		o = &groupOutcome{refused: make([]error, len(group))}
		if err := l.readDevices(ctx, tx, o, group); err != nil {
			return err
		}
		stored, err := l.readLayouts(ctx, tx, o, group)
		if err != nil {
			return err
		}
		coming, joining := make(map[[32]byte]bool), []*asking(nil)
		for i, a := range group {
			device := o.devices[a.device]
			if _, has := device.has[a.fingerprint]; has {
				continue
			}
			_, known := o.layouts[a.fingerprint]
			isNew := !known && !coming[a.fingerprint]
			if o.refused[i] = l.refuse(o, a, isNew, stored); o.refused[i] != nil {
				continue
			}
			if isNew {
				coming[a.fingerprint] = true
				o.added = append(o.added, a)
			}
			device.add(a.fingerprint)
			joining = append(joining, a)
		}
		if err := insertLayouts(ctx, tx, o); err != nil {
			return err
		}
		return insertPairs(ctx, tx, o, joining)
	})
	return o, err
}

// readDevices asks what the devices of a group use so far. The plan is made each
// time: one made while the table was small would read all of it later.
func (*layouts) readDevices(ctx context.Context, tx pgx.Tx, o *groupOutcome, group []*asking) error {
	o.devices = make(map[int32]*deviceLayouts, len(group))
	devices := make([]int32, 0, len(group))
	for _, a := range group {
		if o.devices[a.device] == nil {
			o.devices[a.device] = &deviceLayouts{}
			devices = append(devices, a.device)
		}
	}
	rows, err := tx.Query(ctx, `SELECT d.device_id, l.fingerprint FROM mooring.device_layouts d
		LEFT JOIN mooring.layouts l ON l.id = d.layout_id WHERE d.device_id = ANY ($1::int4[])`,
		pgx.QueryExecModeCacheDescribe, devices)
	if err != nil {
		return err
	}
	var device int32
	var fingerprint []byte
	_, err = pgx.ForEachRow(rows, []any{&device, &fingerprint}, func() error {
		if len(fingerprint) != 32 {
			o.devices[device].count++
			return nil
		}
		o.devices[device].add([32]byte(fingerprint))
		return nil
	})
	return err
}

// readLayouts finds the numbers of a group's layouts, of those in memory without
// asking, and counts how many are stored if some are new.
func (l *layouts) readLayouts(ctx context.Context, tx pgx.Tx, o *groupOutcome, group []*asking) (stored int, err error) {
	o.layouts = make(map[[32]byte]int32)
	asked := make(map[[32]byte]bool)
	var unknown [][]byte
	for _, a := range group {
		if id, known := l.ids.Get(a.fingerprint); known {
			o.layouts[a.fingerprint] = id
		} else if !asked[a.fingerprint] {
			asked[a.fingerprint] = true
			unknown = append(unknown, a.fingerprint[:])
		}
	}
	if len(unknown) == 0 {
		return 0, nil
	}
	found, err := findLayouts(ctx, tx, o, unknown)
	if err != nil || found == len(unknown) {
		o.found = found > 0
		return 0, err
	}
	o.found = found > 0
	return stored, tx.QueryRow(ctx, "SELECT count(*) FROM mooring.layouts").Scan(&stored)
}

// findLayouts looks up the numbers of layouts.
func findLayouts(ctx context.Context, tx pgx.Tx, o *groupOutcome, fingerprints [][]byte) (found int, err error) {
	rows, err := tx.Query(ctx, "SELECT id, fingerprint FROM mooring.layouts WHERE fingerprint = ANY ($1::bytea[])",
		pgx.QueryExecModeCacheDescribe, fingerprints)
	if err != nil {
		return 0, err
	}
	return o.number(rows)
}

// number takes over numbers of layouts.
func (o *groupOutcome) number(rows pgx.Rows) (count int, err error) {
	var id int32
	var fingerprint []byte
	_, err = pgx.ForEachRow(rows, []any{&id, &fingerprint}, func() error {
		if len(fingerprint) == 32 {
			o.layouts[[32]byte(fingerprint)] = id
			count++
		}
		return nil
	})
	return count, err
}

// insertLayouts stores what is new. Of those that another server stored in the
// same moment it takes the number.
func insertLayouts(ctx context.Context, tx pgx.Tx, o *groupOutcome) error {
	if len(o.added) == 0 {
		return nil
	}
	// One order for everybody, so that servers can't wait for each other crosswise.
	slices.SortFunc(o.added, func(a, b *asking) int { return bytes.Compare(a.fingerprint[:], b.fingerprint[:]) })
	names, fingerprints := make([]string, len(o.added)), make([][]byte, len(o.added))
	for i, a := range o.added {
		names[i], fingerprints[i] = a.layout.Name, a.fingerprint[:]
	}
	rows, err := tx.Query(ctx, `INSERT INTO mooring.layouts (name, fingerprint)
		SELECT name, fingerprint FROM unnest($1::text[], $2::bytea[]) WITH ORDINALITY AS l (name, fingerprint, position) ORDER BY position
		ON CONFLICT (fingerprint) DO NOTHING RETURNING id, fingerprint`, names, fingerprints)
	if err != nil {
		return err
	}
	count, err := o.number(rows)
	if err != nil {
		return err
	}
	if count < len(o.added) {
		ours := slices.DeleteFunc(slices.Clone(o.added), func(a *asking) bool {
			_, inserted := o.layouts[a.fingerprint]
			return !inserted
		})
		if _, err := findLayouts(ctx, tx, o, fingerprints); err != nil {
			return err
		}
		for _, a := range o.added {
			if _, there := o.layouts[a.fingerprint]; !there {
				return fmt.Errorf("layout %q was neither stored nor found", a.layout.Name)
			}
		}
		o.added, o.found = ours, true
	}
	return insertChannels(ctx, tx, o)
}

func insertChannels(ctx context.Context, tx pgx.Tx, o *groupOutcome) error {
	var (
		ids             []int32
		positions       []int16
		names, units    []string
		kinds, exponent []int16
	)
	for _, a := range o.added {
		for i, channel := range a.layout.Channels {
			ids, positions = append(ids, o.layouts[a.fingerprint]), append(positions, int16(i+1))
			names, units = append(names, channel.Name), append(units, strings.ToValidUTF8(channel.Unit, "\uFFFD"))
			kinds, exponent = append(kinds, int16(channel.Kind)), append(exponent, int16(channel.Exp10))
		}
	}
	_, err := tx.Exec(ctx, `INSERT INTO mooring.channels (layout_id, pos, name, unit, kind, exp10)
		SELECT layout_id, pos, name, nullif(unit, ''), kind, exp10
		FROM unnest($1::int4[], $2::int2[], $3::text[], $4::text[], $5::int2[], $6::int2[])
			AS c (layout_id, pos, name, unit, kind, exp10)`, ids, positions, names, units, kinds, exponent)
	return err
}

// insertPairs notes which devices use which layouts.
func insertPairs(ctx context.Context, tx pgx.Tx, o *groupOutcome, joining []*asking) error {
	if len(joining) == 0 {
		return nil
	}
	devices, ids := make([]int32, len(joining)), make([]int32, len(joining))
	for i, a := range joining {
		devices[i], ids[i] = a.device, o.layouts[a.fingerprint]
	}
	_, err := tx.Exec(ctx, `INSERT INTO mooring.device_layouts (device_id, layout_id)
		SELECT device_id, layout_id FROM unnest($1::int4[], $2::int4[]) AS p (device_id, layout_id) ORDER BY device_id, layout_id
		ON CONFLICT DO NOTHING`, devices, ids)
	return err
}
