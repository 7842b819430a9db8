//go:build linux

package examples

import (
	"testing"

	"mooring/internal/faults"
)

func TestMain(m *testing.M) { faults.Main(m) }
