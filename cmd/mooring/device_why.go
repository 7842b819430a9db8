package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"time"

	"mooring/cmd/internal/app"
	"mooring/cmd/internal/terminal"
	"mooring/devices"
)

type deviceWhyCommand struct {
	Name string `arg:"" help:"Name of the device."`
	app.Location

	Last int  `default:"10" placeholder:"N" help:"List so many sessions and refusals (${default})."`
	JSON bool `name:"json" help:"As JSON."`
}

func (deviceWhyCommand) Help() string {
	return `Says why a device was last refused, closed or throttled, and what to do about it, from the database alone: no server needs to run. A sentence on top, then its tokens, attempts that were refused, the ends of its last sessions, when it was told to slow down and what was refused of its rows.`
}

// whyJSON is what --json shows.
type whyJSON struct {
	Name       string          `json:"name"`
	State      string          `json:"state"`
	Verdict    string          `json:"verdict"`
	Advice     string          `json:"advice,omitempty"`
	Tokens     []tokenJSON     `json:"tokens"`
	RowRate    *int32          `json:"rows_per_second"`  // null: as the server says for all; 0: no limit
	ByteRate   *int32          `json:"bytes_per_second"` // the same
	Revoked    []string        `json:"revoked_certificates,omitempty"`
	Handshakes []handshakeJSON `json:"refused_handshakes"`
	Sessions   []endJSON       `json:"sessions"`
	Throttles  []throttleJSON  `json:"throttles"`
	Refusals   []refusalJSON   `json:"refusals"`
}

type throttleJSON struct {
	Session    int64     `json:"session"`
	Times      int64     `json:"times"`
	Last       time.Time `json:"last_at"`
	GapMillis  int64     `json:"min_gap_ms"`
	ForSeconds int64     `json:"for_s"`
}

type handshakeJSON struct {
	Reason  string    `json:"reason"`
	Words   string    `json:"words"`
	Times   int64     `json:"times"`
	First   time.Time `json:"first_at"`
	Last    time.Time `json:"last_at"`
	Gateway string    `json:"gateway"`
	Remote  string    `json:"remote,omitempty"`
}

type endJSON struct {
	ID           int64      `json:"id"`
	Gateway      string     `json:"gateway"`
	Remote       string     `json:"remote"`
	Connected    time.Time  `json:"connected_at"`
	Disconnected *time.Time `json:"disconnected_at"`
	Code         int        `json:"close_code,omitempty"`
	CodeName     string     `json:"close_name,omitempty"`
	Reason       string     `json:"reason,omitempty"`
}

type refusalJSON struct {
	At      time.Time `json:"at"`
	Code    string    `json:"code"`
	Channel string    `json:"channel,omitempty"`
	Seq     int64     `json:"seq"`
	N       int64     `json:"n"`
	Detail  string    `json:"detail"`
}

// Run says why.
func (d *deviceWhyCommand) Run(ctx context.Context, out *console) error {
	if d.Last < 1 || d.Last > 1000 {
		return usageErrorf("--last must be 1 to 1000, not %d", d.Last)
	}
	return withAdmin(ctx, d.Location, func(admin *devices.Admin) error {
		why, err := admin.Why(ctx, d.Name, d.Last)
		if err != nil {
			return err
		}
		if d.JSON {
			return out.printJSON(toWhy(&why))
		}
		printWhy(out.stdout, &why)
		return nil
	})
}

func toWhy(why *devices.Why) whyJSON {
	shown := whyJSON{
		Name: why.Name, State: stateOf(why.Listed), Tokens: toDetail(why.Detail).Tokens,
		RowRate: why.Quota.Rows, ByteRate: why.Quota.Bytes, Revoked: why.Revoked,
		Handshakes: []handshakeJSON{}, Sessions: []endJSON{}, Throttles: []throttleJSON{}, Refusals: []refusalJSON{},
	}
	shown.Verdict, shown.Advice = why.Verdict()
	for _, h := range why.Handshakes {
		shown.Handshakes = append(shown.Handshakes,
			handshakeJSON{h.Reason, devices.HandshakeReason(h.Reason), h.Times, h.First, h.Last, h.Gateway, h.Remote})
	}
	for _, s := range why.Recent {
		end := endJSON{
			ID: s.ID, Gateway: s.Gateway, Remote: s.Remote, Connected: s.Connected, Disconnected: orNull(s.Disconnected),
			Code: int(s.Code), Reason: s.Reason,
		}
		if s.Code != 0 {
			end.CodeName = s.Code.String()
		}
		shown.Sessions = append(shown.Sessions, end)
	}
	for _, t := range why.Throttles {
		shown.Throttles = append(shown.Throttles, throttleJSON{t.Session, t.Times, t.Last, t.Gap.Milliseconds(), int64(t.For / time.Second)})
	}
	for _, r := range why.Refusals {
		shown.Refusals = append(shown.Refusals, refusalJSON{r.At, r.Code, r.Channel, r.Seq, r.N, r.Detail})
	}
	return shown
}

func printWhy(w io.Writer, why *devices.Why) {
	style := terminal.NewStyler(w)
	sentence, advice := why.Verdict()
	fmt.Fprintln(w, style.Bold(why.Name+": "+sentence))
	if advice != "" {
		fmt.Fprintln(w, "What to do: "+advice)
	}
	fmt.Fprintln(w)
	for _, token := range why.Tokens {
		fmt.Fprintf(w, "token %d: made %s, %s\n", token.ID, moment(token.CreatedAt), tokenState(token))
	}
	for _, serial := range why.Revoked {
		fmt.Fprintf(w, "certificate %s: revoked\n", serial)
	}
	for what, rate := range map[string]*int32{"rows": why.Quota.Rows, "bytes": why.Quota.Bytes} {
		if rate != nil && *rate > 0 {
			fmt.Fprintf(w, "quota: %d %s a second\n", *rate, what)
		}
	}
	section := func(title string, columns []string, rows [][]string) {
		if len(rows) > 0 {
			fmt.Fprintf(w, "\n%s\n", title)
			terminal.Table(w, columns, rows)
		}
	}
	var rows [][]string
	for _, h := range why.Handshakes {
		rows = append(rows, []string{moment(h.Last), devices.HandshakeReason(h.Reason), strconv.FormatInt(h.Times, 10), moment(h.First), h.Remote})
	}
	section("Attempts that were refused", []string{"last", "because", "times", "first", "from"}, rows)
	rows = nil
	for _, s := range why.Recent {
		ended, code := "open", ""
		if !s.Disconnected.IsZero() {
			ended = moment(s.Disconnected)
		}
		if s.Code != 0 {
			code = fmt.Sprintf("%d %s", s.Code, s.Code)
		}
		rows = append(rows, []string{moment(s.Connected), ended, code, s.Reason, s.Remote})
	}
	section("Last sessions", []string{"from", "until", "code", "reason", "address"}, rows)
	rows = nil
	for _, t := range why.Throttles {
		rows = append(rows, []string{
			moment(t.Last), strconv.FormatInt(t.Times, 10), t.Gap.String(), t.For.String(), strconv.FormatInt(t.Session, 10),
		})
	}
	section("Told to slow down (THROTTLE)", []string{"last", "times", "gap", "for", "session"}, rows)
	rows = nil
	for _, r := range why.Refusals {
		rows = append(rows, []string{moment(r.At), r.Code, r.Channel, strconv.FormatInt(r.Seq, 10), strconv.FormatInt(r.N, 10), r.Detail})
	}
	section("Last refusals", []string{"at", "code", "channel", "row", "rows", "detail"}, rows)
}

// tokenState is what a token is worth, in words.
func tokenState(token devices.TokenInfo) string {
	switch {
	case !token.RevokedAt.IsZero():
		return "revoked " + moment(token.RevokedAt)
	case !token.Live:
		return "expired " + moment(token.ExpiresAt)
	case !token.ExpiresAt.IsZero():
		return "good until " + moment(token.ExpiresAt)
	default:
		return "good"
	}
}
