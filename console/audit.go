package console

import (
	"context"
	"errors"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"mooring/devices"
	"mooring/storage"
)

// Books say what became of the rows that were received of a device, or of all.
type Books struct {
	Balanced   bool  `json:"balanced" doc:"received = committed + duplicate + refused + returned + waiting"`
	Received   int64 `json:"received" doc:"Rows, again included"`
	Committed  int64 `json:"committed"`
	Duplicate  int64 `json:"duplicate" doc:"Rows that were stored before"`
	Refused    int64 `json:"refused" doc:"Whole rows"`
	Returned   int64 `json:"returned" doc:"Rows not acknowledged when the connection ended: the device still has them"`
	Waiting    int64 `json:"waiting" doc:"Rows not yet stored"`
	Difference int64 `json:"difference" doc:"What is wrong with the sum: must be 0. Of all devices: without signs"`
	Unreported int64 `json:"unreported" doc:"Stored rows that no record of a session mentions: of an open one, or of a server that died"`
	Lost       int64 `json:"lost_by_device" doc:"Rows that the device gave up before it sent them; not part of the sum"`
	Open       int64 `json:"open_sessions"`
	Incomplete int64 `json:"incomplete_sessions" doc:"Sessions that ended without last counts, as when a server is killed"`
	Older      bool  `json:"older" doc:"There were rows before the books began"`
}

func toBooks(b storage.Books) Books {
	return Books{
		b.Difference == 0, b.Received, b.Committed, b.Duplicate, b.Refused, b.Returned, b.Waiting, b.Difference,
		b.Unreported, b.Lost, b.Open, b.Incomplete, b.Older,
	}
}

// DeviceBooks are the books of one device.
type DeviceBooks struct {
	Device string `json:"device"`
	Books
}

// Audit is what the books say of all devices.
type Audit struct {
	Books
	Devices  int64         `json:"devices" doc:"How many there are"`
	Wrong    []DeviceBooks `json:"wrong" doc:"Those whose books don't balance, by name, the first 1000"`
	AllWrong int64         `json:"all_wrong" doc:"How many don't"`
}

// maxWrong bounds the list of an Audit.
const maxWrong = 1000

func (a *API) addAudit() {
	const tag = "audit"
	type audit struct{ Body Audit }
	all := operation(http.MethodGet, "/audit", "audit", tag, "Did every row that was received end up somewhere?", devices.RoleViewer)
	all.Description += " Reads the books of every device, which takes some 0.1 ms for each."
	huma.Register(a.huma, all, func(ctx context.Context, _ *struct{}) (*audit, error) {
		found := Audit{Wrong: []DeviceBooks{}}
		var sum storage.Books
		err := a.cfg.Reader.AllBooks(ctx, func(books storage.DeviceBooks) error {
			found.Devices++
			sum.Add(books.Books)
			if books.Difference != 0 {
				if found.AllWrong++; found.AllWrong <= maxWrong {
					found.Wrong = append(found.Wrong, DeviceBooks{books.Device, toBooks(books.Books)})
				}
			}
			return nil
		})
		if err != nil {
			return nil, a.explain(ctx, err)
		}
		found.Books = toBooks(sum)
		return &audit{found}, nil
	})

	type device struct{ Body DeviceBooks }
	huma.Register(a.huma, operation(http.MethodGet, "/devices/{name}/audit", "audit-device", tag, "What became of a device's rows?", devices.RoleViewer),
		func(ctx context.Context, input *NamedDevice) (*device, error) {
			books, err := a.cfg.Reader.Books(ctx, input.Name)
			if errors.Is(err, storage.ErrNoBooks) {
				return nil, huma.Error404NotFound(err.Error())
			}
			if err != nil {
				return nil, a.explain(ctx, err)
			}
			return &device{DeviceBooks{input.Name, toBooks(books)}}, nil
		})
}
