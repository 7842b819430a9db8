package storage

import (
	"fmt"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
)

// errDeviceFull is the refusal of one layout more than a device may have.
var errDeviceFull = fmt.Errorf("%w, for this device", ErrLayoutRefused)

const (
	// rememberFull is how long a device that has as many layouts as it may is
	// refused further ones without asking Postgres: it may send one with every
	// frame, and each would cost a transaction and a line in the log.
	rememberFull = time.Minute
	// fullDevices are remembered, some 2 KiB each.
	fullDevices = 4096
)

// fullDevice is what a device may still use.
type fullDevice struct {
	until time.Time
	has   map[[32]byte]struct{} // fingerprints of its layouts
}

// fullMemory remembers the devices that have as many layouts as they may.
type fullMemory struct {
	devices *lru.Cache[int32, fullDevice]
}

func newFullMemory() (fullMemory, error) {
	devices, err := lru.New[int32, fullDevice](fullDevices)
	if err != nil {
		return fullMemory{}, fmt.Errorf("storage: memory of layouts: %w", err)
	}
	return fullMemory{devices}, nil
}

// refuses says that the device may not have this layout, as far as is known
// without asking.
func (m fullMemory) refuses(device int32, fingerprint [32]byte, now time.Time) error {
	full, known := m.devices.Get(device)
	if !known || now.After(full.until) {
		return nil
	}
	if _, has := full.has[fingerprint]; has {
		return nil
	}
	return fmt.Errorf("%w: it has declared %d layouts already", errDeviceFull, len(full.has))
}

// remember notes that a device was refused for being full, with what it has.
func (m fullMemory) remember(device int32, has map[[32]byte]struct{}, now time.Time) {
	m.devices.Add(device, fullDevice{until: now.Add(rememberFull), has: has})
}
