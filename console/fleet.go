package console

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"mooring/devices"
)

// Gauges are what a server knows of its own work, since it started.
type Gauges struct {
	RowsSettled    uint64        // committed, or duplicates of committed ones
	RowsRefused    uint64        // whole rows
	BytesWaiting   int           // received, not yet committed
	AckP50, AckP99 time.Duration // 0: no acks lately
}

// Fleet is how all devices do, and the server that is asked.
type Fleet struct {
	Type         string    `json:"type" enum:"fleet" doc:"As in the events of /v1/live"`
	Time         time.Time `json:"time"`
	Gateway      string    `json:"gateway" doc:"The server that answers: rates, acks and waiting bytes are its own"`
	Devices      int       `json:"devices" doc:"Registered, at whichever server"`
	Online       int       `json:"online" doc:"At whichever server"`
	RowsPerS     float64   `json:"rows_per_s" doc:"Settled, mean of the last over_s seconds"`
	RefusedPerM  float64   `json:"refusals_per_min" doc:"Whole rows refused, over the last over_s seconds"`
	OverS        float64   `json:"over_s" doc:"Seconds that the rates are of: some three while somebody goes on asking, else those since the last question; in the first answer those since the server started"`
	AckP50       float64   `json:"ack_p50_ms" doc:"From receipt to ack, upper bound; 0: no acks lately"`
	AckP99       float64   `json:"ack_p99_ms"`
	WaitingBytes int       `json:"waiting_bytes" doc:"Received, not yet committed"`
	RowsSettled  uint64    `json:"rows_settled" doc:"Since the server started"`
	RowsRefused  uint64    `json:"rows_refused" doc:"Since the server started"`
}

// The rates are those of the last seconds: long enough to be calm, short enough
// to be news.
const (
	ratesOver  = 3 * time.Second
	fleetEvery = time.Second // more questions get the same answer
)

// figures works out rates from the gauges. It keeps the few points of ratesOver,
// and after a pause in which nobody asked one old one: then the rates are those of the
// pause, and OverS says so. The first point is the server's start, when nothing was
// settled, so that the first answer has rates too.
type figures struct {
	mu     sync.Mutex
	points []figurePoint // oldest first
	last   Fleet
}

type figurePoint struct {
	at time.Time
	Gauges
}

// add takes a point and fills in what follows from the points.
func (f *figures) add(now time.Time, gauges Gauges, fleet *Fleet) {
	f.points = append(f.points, figurePoint{now, gauges})
	for len(f.points) > 2 && now.Sub(f.points[1].at) >= ratesOver {
		f.points = f.points[1:]
	}
	first := f.points[0]
	if over := now.Sub(first.at).Seconds(); over > 0 {
		fleet.OverS = over
		fleet.RowsPerS = float64(gauges.RowsSettled-first.RowsSettled) / over
		fleet.RefusedPerM = float64(gauges.RowsRefused-first.RowsRefused) / over * 60
	}
	fleet.Time = now
	fleet.WaitingBytes, fleet.RowsSettled, fleet.RowsRefused = gauges.BytesWaiting, gauges.RowsSettled, gauges.RowsRefused
	fleet.AckP50, fleet.AckP99 = gauges.AckP50.Seconds()*1e3, gauges.AckP99.Seconds()*1e3
	f.last = *fleet
}

// fleet answers how the fleet does; at most once a fleetEvery by looking.
func (a *API) fleet(ctx context.Context) (Fleet, error) {
	a.figures.mu.Lock()
	defer a.figures.mu.Unlock()
	now := a.now()
	if last := a.figures.last; now.Sub(last.Time) < fleetEvery {
		return last, nil
	}
	all, online, err := a.cfg.Devices.Count(ctx)
	if err != nil {
		return Fleet{}, err
	}
	fleet := Fleet{Type: "fleet", Gateway: a.cfg.Gateway, Devices: all, Online: online}
	a.figures.add(now, a.cfg.Gauges(), &fleet)
	return fleet, nil
}

func (a *API) addFleet() {
	type output struct{ Body Fleet }
	huma.Register(a.huma, operation(http.MethodGet, "/fleet", "show-fleet", "fleet", "How do all devices do, and this server?", devices.RoleViewer),
		func(ctx context.Context, _ *struct{}) (*output, error) {
			fleet, err := a.fleet(ctx)
			if err != nil {
				return nil, a.explain(ctx, err)
			}
			return &output{fleet}, nil
		})
}
