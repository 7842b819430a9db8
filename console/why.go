package console

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"mooring/devices"
)

// Why says why a device is refused, closed or throttled, if it is.
type Why struct {
	Device     string             `json:"device"`
	Time       time.Time          `json:"time" doc:"By the database"`
	Verdict    string             `json:"verdict" doc:"What matters most, in a sentence"`
	Advice     string             `json:"advice,omitempty" doc:"What to do about it; absent: nothing"`
	Handshakes []RefusedHandshake `json:"refused_handshakes" doc:"Latest first"`
	Throttles  []Throttle         `json:"throttles" doc:"Sessions that were told to slow down, newest first"`
}

// Throttle is a session that was told to slow down, because of the device's quota.
type Throttle struct {
	Session   int64     `json:"session"`
	Times     int64     `json:"times"`
	Last      time.Time `json:"last_at"`
	GapMillis int64     `json:"min_gap_ms" doc:"Between frames, that it was asked for last"`
	Seconds   int64     `json:"for_s"`
}

// RefusedHandshake is a reason for which a device was not let in.
type RefusedHandshake struct {
	Reason  string    `json:"reason"`
	Words   string    `json:"words" doc:"The reason, in words"`
	Times   int64     `json:"times"`
	First   time.Time `json:"first_at"`
	Last    time.Time `json:"last_at"`
	Gateway string    `json:"gateway"`
	Remote  string    `json:"remote,omitempty"`
}

// whyRows is how many sessions and refusals the verdict looks at.
const whyRows = 10

func (a *API) addWhy() {
	type output struct{ Body Why }
	huma.Register(a.huma, operation(http.MethodGet, "/devices/{name}/why", "explain-device", "devices", "Why is a device refused, closed or throttled?", devices.RoleViewer),
		func(ctx context.Context, input *NamedDevice) (*output, error) {
			why, err := a.cfg.Devices.Why(ctx, input.Name, whyRows)
			if err != nil {
				return nil, a.explain(ctx, err)
			}
			sentence, advice := why.Verdict()
			return &output{Why{
				Device: input.Name, Time: why.Now, Verdict: sentence, Advice: advice,
				Handshakes: convert(why.Handshakes, func(h devices.RefusedHandshake) RefusedHandshake {
					return RefusedHandshake{h.Reason, devices.HandshakeReason(h.Reason), h.Times, h.First, h.Last, h.Gateway, h.Remote}
				}),
				Throttles: convert(why.Throttles, func(t devices.Throttle) Throttle {
					return Throttle{t.Session, t.Times, t.Last, t.Gap.Milliseconds(), int64(t.For.Seconds())}
				}),
			}}, nil
		})
}
