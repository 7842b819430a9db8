package console

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"mooring/devices"
	"mooring/storage"
)

// Sparklines are the last readings of a device, small enough for a list.
type Sparklines struct {
	Device   string      `json:"device"`
	Channels []Sparkline `json:"channels" doc:"Channels of numbers in the order of the device's layout"`
}

// Sparkline is a channel at equal steps.
type Sparkline struct {
	Metric string     `json:"metric"`
	Unit   string     `json:"unit,omitempty"`
	Values []*float64 `json:"values" doc:"The last value of each step, oldest first; null: none"`
	Last   *float64   `json:"last" doc:"The last known value, also from before; null: none"`
	LastAt *time.Time `json:"last_at"`
}

// defaultSparkline is the stretch of time that sparklines show.
const defaultSparkline = 15 * time.Minute

type sparklinesInput struct {
	Devices  []string `query:"device,explode" required:"true" minItems:"1" maxItems:"100" doc:"Names of devices; those that are none are left out"`
	Stretch  string   `query:"stretch" doc:"How far back, as 15m or 24h; 15m, if absent" example:"15m"`
	Points   int      `query:"points" minimum:"2" maximum:"120" default:"30" doc:"How many steps"`
	Channels int      `query:"channels" minimum:"1" maximum:"8" default:"2" doc:"Of how many channels at most"`
	stretch  time.Duration
}

// Resolve reads the stretch.
func (in *sparklinesInput) Resolve(huma.Context) []error {
	in.stretch = defaultSparkline
	if in.Stretch == "" {
		return nil
	}
	var err error
	if in.stretch, err = time.ParseDuration(in.Stretch); err != nil || in.stretch < time.Second || in.stretch > 31*24*time.Hour {
		return []error{&huma.ErrorDetail{Message: "must be a length of time from 1s to 744h, as 15m or 24h", Location: "query.stretch", Value: in.Stretch}}
	}
	return nil
}

func (a *API) addSparklines() {
	type output struct{ Body []Sparklines }
	sparklines := operation(http.MethodGet, "/sparklines", "list-sparklines", "readings", "Read the last readings of many devices, thinned out", devices.RoleViewer)
	sparklines.Description += " One reading a step, which costs one look-up each, however many there are: for a glance, not for sums."
	huma.Register(a.huma, sparklines, func(ctx context.Context, input *sparklinesInput) (*output, error) {
		now := a.now()
		found, err := a.cfg.Reader.Sparklines(ctx, storage.SparklineQuery{
			Devices: input.Devices, From: now.Add(-input.stretch), Until: now, Points: input.Points, Channels: input.Channels,
		})
		if err != nil {
			return nil, a.explain(ctx, err)
		}
		return &output{convert(found, toSparklines)}, nil
	})
}

func toSparklines(s storage.Sparklines) Sparklines {
	return Sparklines{s.Device, convert(s.Channels, func(c storage.Sparkline) Sparkline {
		return Sparkline{c.Metric, c.Unit, c.Values, c.Last, orNull(c.LastAt)}
	})}
}
