package live

import (
	"context"
	"time"

	"mooring/devices"
	"mooring/storage"
)

// Directory tells who the devices are; devices.Admin is one.
type Directory interface {
	Watched(ctx context.Context, filter devices.WatchFilter) (list []devices.Watched, total int, err error)
	Count(ctx context.Context) (all, online int, err error)
	FollowPresence(ctx context.Context, synced func(), changed func([]devices.PresenceChange) error) error
	FollowCommands(ctx context.Context, listening func(), changed func([]devices.Command)) error
}

// Readings tells what is stored; storage.Reader is one.
type Readings interface {
	LatestOf(ctx context.Context, devices []int32, yield func(storage.LatestReading) error) error
	LayoutChannels(ctx context.Context, layouts []int32) (map[int32][]storage.LayoutChannel, error)
	RowsSince(ctx context.Context, marks []storage.Mark, most int, yield func(storage.News) error) error
	RejectsAfter(ctx context.Context, after int64, limit int) ([]storage.DeviceReject, error)
	LastReject(ctx context.Context) (int64, error)
}

// Committed tells what this server commits; storage.Follower is one.
type Committed interface {
	Watch(devices map[int32]struct{})
	Take(yield func(storage.News))
}

// Figures are those of this server, for a live display.
type Figures struct {
	RowsCommitted  uint64 // since the start
	RowsRejected   uint64
	BytesWaiting   int
	AckP50, AckP99 time.Duration // 0: nothing was acknowledged lately
}
