package demo

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"mooring/cmd/internal/fleet"
	"mooring/cmd/internal/terminal"
	"mooring/storage"
)

// judge compares what was promised with what is stored, and shows that SQL
// finds it. It reads as anybody would: with the reader's role.
func (d *demo) judge(ctx context.Context) error {
	reader, err := storage.OpenReader(ctx, d.server.Database().Embedded.ReaderURL)
	if err != nil {
		return err
	}
	defer reader.Close()
	ledger, err := fleet.ReadLedger(d.ledger())
	if err != nil {
		return err
	}
	d.section("Three queries, as any SQL client can ask them")
	for _, sql := range d.queries() {
		columns, rows, err := reader.Table(ctx, sql)
		if err != nil {
			return fmt.Errorf("%s: %w", sql, err)
		}
		fmt.Fprintf(d.live, "%s\n\n", d.style.Dim(sql))
		terminal.Table(d.live, columns, rows)
		fmt.Fprintln(d.live)
	}

	d.section("The verdict: what was acknowledged against what is stored")
	verdict, err := fleet.Verify(ctx, reader, ledger)
	if err != nil {
		return err
	}
	verdict.Print(d.live)
	host, err := d.judgeHost(ctx, reader)
	if err != nil {
		return err
	}
	if !verdict.Clean || !host {
		return ErrNotClean
	}
	return nil
}

// judgeHost counts this machine's samples, of which every one must be stored.
func (d *demo) judgeHost(ctx context.Context, reader *storage.Reader) (bool, error) {
	stored := uint64(0)
	err := reader.Samples(ctx, d.host.Device.Name, func(storage.Sample) error {
		stored++
		return nil
	})
	if err != nil {
		return false, err
	}
	line := fmt.Sprintf("%s: %s acknowledged, %d stored", d.host.Device.Name, terminal.Count(d.hostRows, "sample"), stored)
	clean := stored == d.hostRows && stored > 0
	if clean {
		fmt.Fprintln(d.live, d.style.Good(line))
	} else {
		fmt.Fprintln(d.live, d.style.Bad(line+": NOT CLEAN"))
	}
	return clean, nil
}

// queries are what a newcomer would ask first.
func (d *demo) queries() []string {
	host := "'" + strings.ReplaceAll(d.host.Device.Name, "'", "''") + "'"
	return []string{
		"SELECT metric, round(value::numeric, 2) AS value, unit, ts FROM latest WHERE device = " + host + " ORDER BY metric",
		"SELECT device, count(*) AS readings, round(avg(value)::numeric, 3) AS average, min(ts) AS first, max(ts) AS last\n" +
			"  FROM readings WHERE device LIKE 'sim-%' AND metric = " + d.metric() + " GROUP BY device ORDER BY device LIMIT " + strconv.Itoa(shownDevices),
		"SELECT device, online, since, last_close_code AS code, last_close_reason AS reason\n" +
			"  FROM device_status ORDER BY since DESC LIMIT " + strconv.Itoa(shownDevices),
	}
}

// shownDevices is how many devices a result shows: enough to believe it.
const shownDevices = 5

// metric is the name of the fleet's first channel that measures something.
func (d *demo) metric() string {
	plan := fleet.Plan{Channels: 6}
	return "'" + plan.Layout().Channels[1].Name + "'"
}
