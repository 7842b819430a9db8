package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"

	"mooring/cmd/internal/app"
	"mooring/cmd/internal/terminal"
	"mooring/storage"
)

type auditCommand struct {
	Name string `arg:"" optional:"" placeholder:"DEVICE" help:"Only this device."`
	app.Location

	Recount bool `help:"Count the stored rows too, which reads the index of all samples."`
	All     bool `help:"List every device, also where nothing is wrong."`
	JSON    bool `name:"json" help:"As JSON."`
}

func (auditCommand) Help() string {
	return `Every row that was received was committed, or is a duplicate of a committed one, or was refused, or was returned (not acknowledged when its connection or its server ended: the device still has it and sends it again), or waits for the database. The difference must be 0 at any moment, also while a server runs. Two parties count, each by itself: the store in the transaction that stores the rows, and the gateway per session.

A server that was killed could not write its last counts; the rows it had stored are found by the store's own and shown as unreported, as are those of open sessions, whose record is up to half a minute old.

The exit code is 0 only if the books balance.`
}

// booksJSON are books as --json shows them.
type booksJSON struct {
	Device     string `json:"device,omitempty"`
	Received   int64  `json:"received"`
	Committed  int64  `json:"committed"`
	Duplicate  int64  `json:"duplicate"`
	Refused    int64  `json:"refused"`
	Returned   int64  `json:"returned"`
	Waiting    int64  `json:"waiting"`
	Difference int64  `json:"difference"`
	Unreported int64  `json:"unreported"`
	Lost       int64  `json:"lost_by_device"`
	Open       int64  `json:"open_sessions"`
	Incomplete int64  `json:"incomplete_sessions"`
	Stored     *int64 `json:"stored,omitempty"` // with --recount
	Balanced   bool   `json:"balanced"`
}

type auditJSON struct {
	Balanced bool        `json:"balanced"`
	All      booksJSON   `json:"all"`
	Devices  []booksJSON `json:"devices"`
}

// Run audits the books.
func (a *auditCommand) Run(ctx context.Context, out *console) error {
	database, err := connect(a.Location)
	if err != nil {
		return err
	}
	reader, err := storage.OpenReader(ctx, database.URL)
	if err != nil {
		return databaseError(err)
	}
	defer reader.Close()
	report, err := a.audit(ctx, reader)
	switch {
	case errors.Is(err, storage.ErrNoBooks):
		return &codedError{exitNoDevice, fmt.Errorf("no such device: %s.\nmooring device list shows those there are", a.Name)}
	case err != nil:
		return deviceError(err)
	}
	if a.JSON {
		err = out.printJSON(report)
	} else {
		a.print(out.stdout, report)
	}
	if err == nil && !report.Balanced {
		err = errShown
	}
	return err
}

func (a *auditCommand) audit(ctx context.Context, reader *storage.Reader) (*auditJSON, error) {
	report := &auditJSON{Balanced: true, Devices: []booksJSON{}}
	var sum storage.Books
	var stored int64
	enter := func(books storage.DeviceBooks) error {
		sum.Add(books.Books)
		report.Devices = append(report.Devices, toBooks(books.Device, books.Books))
		return nil
	}
	if a.Name != "" {
		books, err := reader.Books(ctx, a.Name)
		if err != nil {
			return nil, err
		}
		_ = enter(storage.DeviceBooks{Device: a.Name, Books: books})
	} else if err := reader.AllBooks(ctx, enter); err != nil {
		return nil, err
	}
	for i := range report.Devices {
		device := &report.Devices[i]
		if a.Recount {
			count, err := a.recount(ctx, reader, device)
			if err != nil {
				return nil, err
			}
			stored += count
		}
		report.Balanced = report.Balanced && device.Balanced
	}
	report.All = toBooks("", sum)
	report.All.Balanced = report.Balanced
	if a.Recount {
		report.All.Stored = &stored
	}
	return report, nil
}

// recount compares with the stored rows, and leaves aside a device to which rows
// were added meanwhile.
func (a *auditCommand) recount(ctx context.Context, reader *storage.Reader, device *booksJSON) (int64, error) {
	stored, err := reader.Recount(ctx, device.Device)
	if err != nil {
		return 0, err
	}
	device.Stored = &stored
	after, err := reader.Books(ctx, device.Device)
	if err != nil {
		return 0, err
	}
	if after.Committed == device.Committed && (stored < device.Committed || stored > device.Committed && !after.Older) {
		device.Balanced = false
	}
	return stored, nil
}

func toBooks(device string, b storage.Books) booksJSON {
	return booksJSON{
		Device: device, Received: b.Received, Committed: b.Committed, Duplicate: b.Duplicate, Refused: b.Refused,
		Returned: b.Returned, Waiting: b.Waiting, Difference: b.Difference, Unreported: b.Unreported, Lost: b.Lost,
		Open: b.Open, Incomplete: b.Incomplete, Balanced: b.Difference == 0,
	}
}

// shownBooks is how many devices are listed unless more are asked for: those
// that don't balance come first.
const shownBooks = 20

func (a *auditCommand) print(w io.Writer, report *auditJSON) {
	columns := []string{"", "received", "committed", "duplicate", "refused", "returned", "waiting", "difference", "unreported"}
	if a.Recount {
		columns = append(columns, "stored now")
	}
	devices := slices.Clone(report.Devices)
	slices.SortStableFunc(devices, func(a, b booksJSON) int {
		switch {
		case a.Balanced == b.Balanced:
			return 0
		case a.Balanced:
			return 1
		default:
			return -1
		}
	})
	more := 0
	if !a.All && len(devices) > shownBooks {
		more = len(devices) - shownBooks
		devices = devices[:shownBooks]
	}
	var rows [][]string
	if a.Name == "" {
		all := report.All
		all.Device = "all devices"
		rows = append(rows, a.row(all))
	}
	for _, device := range devices {
		rows = append(rows, a.row(device))
	}
	terminal.Table(w, columns, rows)
	if more > 0 {
		fmt.Fprintf(w, "and %s: --all lists them\n", terminal.Count(more, "more device"))
	}
	if n := report.All.Incomplete; n > 0 {
		fmt.Fprintf(w, "%s ended without last counts, as when a server is killed; rows stored by then and not counted are among the unreported\n", terminal.Count(n, "session"))
	}
	style := terminal.NewStyler(w)
	unbalanced := 0
	for _, device := range report.Devices {
		if !device.Balanced {
			unbalanced++
		}
	}
	if report.Balanced {
		fmt.Fprintln(w, style.Good("the books balance: received = committed + duplicate + refused + returned + waiting"))
		return
	}
	fmt.Fprintln(w, style.Bad("THE BOOKS DO NOT BALANCE: "+terminal.Count(unbalanced, "device")))
	if a.Recount {
		fmt.Fprintln(w, "If stored now is less than committed: retention, or somebody by hand, deleted rows; else they are lost.")
	}
}

func (a *auditCommand) row(b booksJSON) []string {
	count := func(n int64) string { return strconv.FormatInt(n, 10) }
	row := []string{
		b.Device, count(b.Received), count(b.Committed), count(b.Duplicate), count(b.Refused),
		count(b.Returned), count(b.Waiting), count(b.Difference), count(b.Unreported),
	}
	if a.Recount && b.Stored != nil {
		row = append(row, count(*b.Stored))
	}
	return row
}
