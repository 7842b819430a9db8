package app

import (
	"context"
	"errors"
	"fmt"

	"mooring/devices"
	"mooring/ingest"
	"mooring/storage"
	"mooring/wire"
)

// The adapters plug devices and storage into the gateway's ports. They convert
// structs of the same shape and translate errors; anything more belongs
// elsewhere.
var (
	_ ingest.Authenticator = authenticator{}
	_ ingest.SessionLog    = sessionLog{}
	_ ingest.RowStore      = rowStore{}
)

type authenticator struct{ registry *devices.Registry }

func (a authenticator) Authenticate(ctx context.Context, credential ingest.Credential) (ingest.Device, error) {
	device, err := a.registry.Authenticate(ctx, devices.Credential(credential))
	if err != nil {
		return ingest.Device{}, translate(err)
	}
	return ingest.Device(device), nil
}

// translate gives the registry's refusals the gateway's names; other errors may
// pass.
func translate(err error) error {
	switch {
	case errors.Is(err, devices.ErrUnauthenticated):
		return ingest.ErrUnauthenticated
	case errors.Is(err, devices.ErrDisabled):
		return ingest.ErrDisabled
	default:
		return err
	}
}

// dropRevoked ends the connections of a credential that is none any more, or the
// one that a newer connection to another gateway has replaced.
func dropRevoked(gateway *ingest.Gateway, revocation devices.Revocation) {
	if revocation.Replaced != 0 {
		gateway.Replace(revocation.DeviceID, revocation.Replaced)
		return
	}
	code := wire.CloseUnauthenticated
	if revocation.Disabled {
		code = wire.CloseDisabled
	}
	if revocation.Serial != "" {
		gateway.DropCertificate(revocation.DeviceID, revocation.Serial, code)
		return
	}
	gateway.DropDevice(revocation.DeviceID, revocation.TokenID, code)
}

// commandSender hands the registry's commands to the gateway's devices.
func commandSender(gateway *ingest.Gateway) devices.CommandSender {
	return func(device int32, command wire.Command) error {
		err := gateway.SendCommand(device, command)
		switch {
		case errors.Is(err, ingest.ErrNotConnected):
			return devices.ErrNotHere
		case errors.Is(err, ingest.ErrTooLarge):
			return devices.ErrTooLarge
		default:
			return err
		}
	}
}

type sessionLog struct{ registry *devices.Registry }

func (l sessionLog) Open(ctx context.Context, start ingest.SessionStart) (ingest.SessionInfo, error) {
	info, err := l.registry.OpenSession(ctx, devices.SessionStart{
		Device:    devices.Device(start.Device),
		Remote:    start.Remote,
		BootID:    start.BootID,
		Model:     start.Model,
		Firmware:  start.Firmware,
		Connected: start.Connected,
	})
	if err != nil {
		return ingest.SessionInfo{}, translate(err)
	}
	return ingest.SessionInfo(info), nil
}

func (l sessionLog) Progress(progress ingest.SessionProgress) {
	l.registry.Progress(convertProgress(progress))
}

func (l sessionLog) Close(end ingest.SessionEnd) {
	l.registry.EndSession(devices.SessionEnd{
		SessionProgress: convertProgress(end.SessionProgress),
		Disconnected:    end.Disconnected,
		Code:            end.Code,
		Reason:          end.Reason,
		Incomplete:      end.Incomplete,
	})
}

func convertProgress(progress ingest.SessionProgress) devices.SessionProgress {
	return devices.SessionProgress{
		Session:  progress.Session,
		LastSeen: progress.LastSeen,
		Next:     progress.Next,
		HasNext:  progress.HasNext,
		Counts:   devices.SessionCounts(progress.Counts),
		Throttle: devices.Throttling(progress.Throttle),
	}
}

// rowStore passes AppendRow, which is called for every row, and RecordRejects
// through as they are.
type rowStore struct{ *storage.Store }

func (s rowStore) ResolveLayout(ctx context.Context, device int32, layout *wire.Layout) (int32, error) {
	number, err := s.Store.ResolveLayout(ctx, device, layout)
	if errors.Is(err, storage.ErrLayoutRefused) {
		err = fmt.Errorf("%w: %w", ingest.ErrLayoutRefused, err)
	}
	return number, err
}

func (s rowStore) Write(ctx context.Context, writer int, rows []byte, count int, resent []int32) (ingest.Outcome, error) {
	outcome, err := s.Store.Write(ctx, writer, rows, count, resent)
	converted := ingest.Outcome{Duplicates: outcome.Duplicates}
	for _, row := range outcome.Rejected {
		converted.Rejected = append(converted.Rejected, ingest.RejectedRow(row))
	}
	return converted, err
}
