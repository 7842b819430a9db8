package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"mooring/cmd/internal/app"
	"mooring/cmd/internal/terminal"
	"mooring/devices"
)

// deviceJSON is a device as --json shows it.
type deviceJSON struct {
	Name      string         `json:"name"`
	ID        int32          `json:"id"`
	Model     string         `json:"model,omitempty"`
	Labels    map[string]any `json:"labels"`
	State     string         `json:"state"` // online, offline or disabled
	CreatedAt time.Time      `json:"created_at"`
	LastSeen  *time.Time     `json:"last_seen"` // null: never
}

func stateOf(device devices.Listed) string {
	switch {
	case device.Disabled:
		return "disabled"
	case device.Online:
		return "online"
	default:
		return "offline"
	}
}

func toJSON(device devices.Listed) deviceJSON {
	labels := device.Labels
	if labels == nil {
		labels = map[string]any{}
	}
	return deviceJSON{
		Name: device.Name, ID: device.ID, Model: device.Model, Labels: labels, State: stateOf(device),
		CreatedAt: device.CreatedAt, LastSeen: orNull(device.LastSeen),
	}
}

func orNull(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

type deviceListCommand struct {
	app.Location

	Prefix   string `placeholder:"TEXT" help:"Only names that begin with it."`
	Online   bool   `xor:"state" help:"Only those connected."`
	Offline  bool   `xor:"state" help:"Only those not connected."`
	Disabled bool   `xor:"state" help:"Only disabled ones."`
	Limit    int    `default:"1000" help:"At most so many; 0: all."`
	JSON     bool   `name:"json" help:"As JSON."`
}

// Run lists devices.
func (d *deviceListCommand) Run(ctx context.Context, out *console) error {
	return withAdmin(ctx, d.Location, func(admin *devices.Admin) error {
		list, more, err := d.collect(ctx, admin)
		if err != nil {
			return err
		}
		if d.JSON {
			shown := make([]deviceJSON, len(list))
			for i, device := range list {
				shown[i] = toJSON(device)
			}
			return out.printJSON(shown)
		}
		if len(list) == 0 {
			fmt.Fprintln(out.stdout, d.nothing())
			return nil
		}
		rows := make([][]string, len(list))
		for i, device := range list {
			rows[i] = []string{device.Name, stateOf(device), ago(device.LastSeen), device.Model, labelText(device.Labels)}
		}
		terminal.Table(out.stdout, []string{"device", "state", "last seen", "model", "labels"}, rows)
		if more {
			fmt.Fprintf(out.stderr, "Only the first %d are shown; --limit 0 shows all.\n", d.Limit)
		}
		return nil
	})
}

// nothing says why the list is empty, as far as what was asked for tells.
func (d *deviceListCommand) nothing() string {
	which := ""
	switch {
	case d.Online:
		which = " that is online"
	case d.Offline:
		which = " that is offline"
	case d.Disabled:
		which = " that is disabled"
	}
	if d.Prefix != "" {
		which += fmt.Sprintf(" with a name that begins with %q", d.Prefix)
	}
	if which == "" {
		return "No device. Add one with: mooring device add NAME"
	}
	return "No device" + which + ". mooring device list, without filters, shows those there are."
}

// collect reads pages until there are no more or the limit is reached.
func (d *deviceListCommand) collect(ctx context.Context, admin *devices.Admin) (list []devices.Listed, more bool, err error) {
	filter := devices.Filter{Prefix: d.Prefix, Limit: devices.MaxPage}
	yes, no := true, false
	switch {
	case d.Online:
		filter.Online = &yes
	case d.Offline:
		filter.Online, filter.Disabled = &no, &no
	case d.Disabled:
		filter.Disabled = &yes
	}
	for {
		page, err := admin.List(ctx, filter)
		if err != nil {
			return nil, false, err
		}
		list = append(list, page...)
		if d.Limit > 0 && len(list) > d.Limit {
			return list[:d.Limit], true, nil
		}
		if len(page) < filter.Limit {
			return list, false, nil
		}
		filter.After = page[len(page)-1].Name
	}
}

type deviceShowCommand struct {
	Name string `arg:"" help:"Name of the device."`
	app.Location

	JSON bool `name:"json" help:"As JSON."`
}

// detailJSON is all about a device as --json shows it.
type detailJSON struct {
	deviceJSON
	Quota    quotaJSON    `json:"quota"`
	Tokens   []tokenJSON  `json:"tokens"`
	Sessions int64        `json:"sessions"`
	Rows     rowsJSON     `json:"rows"`
	Last     *sessionJSON `json:"last_session"`
}

// quotaJSON is a device's quota, a second, in the words of device quota.
type quotaJSON struct {
	Rows  string `json:"rows"`
	Bytes string `json:"bytes"`
}

type tokenJSON struct {
	ID        int64      `json:"id"`
	Live      bool       `json:"live"`
	CreatedAt time.Time  `json:"created_at"`
	ExpiresAt *time.Time `json:"expires_at"`
	RevokedAt *time.Time `json:"revoked_at"`
}

type rowsJSON struct {
	In        uint64 `json:"in"`
	Committed uint64 `json:"committed"`
	Duplicate uint64 `json:"duplicate"`
	Rejected  uint64 `json:"rejected"`
	Lost      uint64 `json:"lost_by_device"`
}

type sessionJSON struct {
	ID           int64      `json:"id"`
	Gateway      string     `json:"gateway"`
	Remote       string     `json:"remote"`
	Firmware     string     `json:"firmware,omitempty"`
	Connected    time.Time  `json:"connected_at"`
	LastSeen     time.Time  `json:"last_seen_at"`
	Disconnected *time.Time `json:"disconnected_at"`
	Code         int        `json:"close_code,omitempty"`
	Reason       string     `json:"reason,omitempty"`
	Rows         rowsJSON   `json:"rows"`
}

func toRows(counts devices.SessionCounts) rowsJSON {
	return rowsJSON{counts.RowsIn, counts.RowsCommitted, counts.RowsDuplicate, counts.RowsRejected, counts.RowsLost}
}

// Run shows a device.
func (d *deviceShowCommand) Run(ctx context.Context, out *console) error {
	return withAdmin(ctx, d.Location, func(admin *devices.Admin) error {
		detail, err := admin.Show(ctx, d.Name)
		if err != nil {
			return err
		}
		limits, err := admin.Quota(ctx, d.Name)
		if err != nil {
			return err
		}
		quota := quotaJSON{quotaWord(limits.Rows), quotaWord(limits.Bytes)}
		if d.JSON {
			shown := toDetail(detail)
			shown.Quota = quota
			return out.printJSON(shown)
		}
		printDetail(out.stdout, detail, quota)
		return nil
	})
}

func toDetail(detail devices.Detail) detailJSON {
	shown := detailJSON{deviceJSON: toJSON(detail.Listed), Tokens: []tokenJSON{}, Sessions: detail.Sessions, Rows: toRows(detail.Totals)}
	for _, token := range detail.Tokens {
		shown.Tokens = append(shown.Tokens, tokenJSON{token.ID, token.Live, token.CreatedAt, orNull(token.ExpiresAt), orNull(token.RevokedAt)})
	}
	if last := detail.Last; last != nil {
		shown.Last = &sessionJSON{
			ID: last.ID, Gateway: last.Gateway, Remote: last.Remote, Firmware: last.Firmware, Connected: last.Connected,
			LastSeen: last.LastSeen, Disconnected: orNull(last.Disconnected), Code: int(last.Code), Reason: last.Reason,
			Rows: toRows(last.Counts),
		}
	}
	return shown
}

func printDetail(w io.Writer, detail devices.Detail, quota quotaJSON) {
	line := func(name, format string, args ...any) {
		fmt.Fprintf(w, "%-10s %s\n", name, terminal.Plain(fmt.Sprintf(format, args...)))
	}
	line("device", "%s (number %d)", detail.Name, detail.ID)
	line("state", "%s, last seen %s", stateOf(detail.Listed), ago(detail.LastSeen))
	if detail.Model != "" {
		line("model", "%s", detail.Model)
	}
	if len(detail.Labels) > 0 {
		line("labels", "%s", labelText(detail.Labels))
	}
	line("added", "%s", moment(detail.CreatedAt))
	line("quota", "rows %s, bytes %s a second", quota.Rows, quota.Bytes)
	for _, token := range detail.Tokens {
		line("token", "%d: made %s, %s", token.ID, moment(token.CreatedAt), tokenState(token))
	}
	rows := detail.Totals
	line("rows", "%d in %s: %d committed, %d duplicate, %d rejected; %d lost by the device",
		rows.RowsIn, terminal.Count(detail.Sessions, "session"), rows.RowsCommitted, rows.RowsDuplicate, rows.RowsRejected, rows.RowsLost)
	if last := detail.Last; last != nil {
		line("session", "%d on %s from %s, since %s", last.ID, last.Gateway, last.Remote, moment(last.Connected))
		if !last.Disconnected.IsZero() {
			line("", "ended %s: %s (%d)", moment(last.Disconnected), cmp.Or(last.Reason, last.Code.String()), last.Code)
		}
	}
}

func labelText(labels map[string]any) string {
	parts := make([]string, 0, len(labels))
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		parts = append(parts, fmt.Sprintf("%s=%v", key, labels[key]))
	}
	return strings.Join(parts, " ")
}

func moment(t time.Time) string { return t.Local().Format(time.DateTime) }

// ago is how long something is past, roughly.
func ago(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	past := time.Since(t)
	switch {
	case past < time.Minute:
		return fmt.Sprintf("%d s ago", max(0, int(past.Seconds())))
	case past < time.Hour:
		return fmt.Sprintf("%d min ago", int(past.Minutes()))
	case past < 48*time.Hour:
		return fmt.Sprintf("%d h ago", int(past.Hours()))
	default:
		return fmt.Sprintf("%d days ago", int(past.Hours()/24))
	}
}
