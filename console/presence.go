package console

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"mooring/devices"
	"mooring/storage"
)

// UptimeDay is how long a device was connected on a day.
type UptimeDay struct {
	Day      string  `json:"day" format:"date" example:"2026-11-21"`
	Online   float64 `json:"online_s" doc:"Seconds it was connected"`
	Known    float64 `json:"known_s" doc:"Seconds that count: since its first session on record, before now"`
	Percent  float64 `json:"percent" doc:"online_s of known_s"`
	Sessions int64   `json:"sessions" doc:"Open at some time of the day"`
	Losses   int64   `json:"losses" doc:"How often it went offline"`
}

// Interruption is a stretch of time of which something is missing.
type Interruption struct {
	Kind    string     `json:"kind" enum:"link,silent,lost,refused" doc:"link: it was not connected; silent: it was, and sent nothing; lost: rows that it gave up; refused: rows that were refused"`
	Began   time.Time  `json:"began"`
	Ended   *time.Time `json:"ended" doc:"null: it is still so"`
	Lasted  float64    `json:"lasted_s"`
	Samples int64      `json:"samples" doc:"Of link: samples of that time that it sent later"`
	Missing int64      `json:"missing" doc:"Of lost and refused: sequence numbers that are missing"`
	Reason  string     `json:"reason" doc:"In words"`
}

// maxStretch bounds how far back interruptions are looked for: every sample of
// the stretch is read.
const maxStretch = 31 * 24 * time.Hour

type gapsInput struct {
	NamedDevice
	From       time.Time     `query:"from" doc:"From this time on; a day before until, if absent"`
	Until      time.Time     `query:"until" doc:"Before this time; now, if absent"`
	LongerThan string        `query:"longer_than" default:"5m" doc:"Only links that were gone and silences that were longer, as 30s, 5m or 1h"`
	longerThan time.Duration `json:"-"`
}

// Resolve checks what no single field's rule can.
func (in *gapsInput) Resolve(huma.Context) []error {
	if in.Until.IsZero() {
		in.Until = time.Now()
	}
	if in.From.IsZero() {
		in.From = in.Until.Add(-24 * time.Hour)
	}
	if stretch := in.Until.Sub(in.From); stretch <= 0 || stretch > maxStretch {
		return []error{&huma.ErrorDetail{Message: "must be before until, by 31 days at most", Location: "query.from", Value: in.From}}
	}
	var err error
	if in.longerThan, err = time.ParseDuration(in.LongerThan); err != nil || in.longerThan < 0 {
		return []error{&huma.ErrorDetail{Message: "must be a length of time, as 30s, 5m or 1h", Location: "query.longer_than", Value: in.LongerThan}}
	}
	return nil
}

func (a *API) addPresence() {
	const tag = "devices"
	type uptimeInput struct {
		NamedDevice
		From  string `query:"from" format:"date" doc:"From this day on; the first one on record, if absent"`
		Until string `query:"until" format:"date" doc:"Up to this day; today, if absent"`
		Zone  string `query:"zone" maxLength:"64" default:"UTC" example:"Europe/Oslo" doc:"Whose days"`
	}
	type uptime struct{ Body []UptimeDay }
	huma.Register(a.huma, operation(http.MethodGet, "/devices/{name}/uptime", "list-uptime", tag, "How long was a device connected, day by day?", devices.RoleViewer),
		func(ctx context.Context, input *uptimeInput) (*uptime, error) {
			if err := a.mustExist(ctx, input.Name); err != nil {
				return nil, err
			}
			days, err := a.cfg.Reader.Uptime(ctx, input.Name, input.From, input.Until, input.Zone)
			if errors.Is(err, storage.ErrNoZone) {
				return nil, huma.Error422UnprocessableEntity(err.Error(), &huma.ErrorDetail{
					Message: "is no time zone that the database knows", Location: "query.zone", Value: input.Zone,
				})
			}
			if err != nil {
				return nil, a.explain(ctx, err)
			}
			return &uptime{convert(days, func(d storage.UptimeDay) UptimeDay {
				return UptimeDay{d.Day, d.Online.Seconds(), d.Known.Seconds(), d.Percent, d.Sessions, d.Losses}
			})}, nil
		})

	type gaps struct{ Body []Interruption }
	huma.Register(a.huma, operation(http.MethodGet, "/devices/{name}/gaps", "list-gaps", tag, "What is missing, for want of a link or of data?", devices.RoleViewer),
		func(ctx context.Context, input *gapsInput) (*gaps, error) {
			if err := a.mustExist(ctx, input.Name); err != nil {
				return nil, err
			}
			found, err := a.cfg.Reader.Interruptions(ctx, input.Name, input.From, input.Until, input.longerThan)
			if err != nil {
				return nil, a.explain(ctx, err)
			}
			return &gaps{convert(found, func(i storage.Interruption) Interruption {
				return Interruption{i.Kind, i.Began, orNull(i.Ended), i.Lasted.Seconds(), i.Samples, i.Missing, i.Reason}
			})}, nil
		})
}
