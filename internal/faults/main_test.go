//go:build linux

package faults_test

import (
	"testing"

	"mooring/internal/faults"
)

func TestMain(m *testing.M) { faults.Main(m) }
