//go:build linux || darwin

package embedded

import (
	"context"
	"errors"
)

// download is the last resort: see decision 041.
func (c *Cluster) download(_ context.Context, _ int) (Installation, error) {
	return Installation{}, errors.New("not available")
}
