//go:build linux || darwin

package pgtest_test

import (
	"testing"

	"mooring/internal/pgtest"
)

// BenchmarkURL measures what a database costs a test, its removal included.
func BenchmarkURL(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		b.StartTimer()
		pgtest.URL(b)
	}
}
