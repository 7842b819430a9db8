//go:build linux || darwin

package pgtest_test

import (
	"testing"

	"mooring/internal/pgtest"
)

// BenchmarkURL measures what a database costs a test, without its removal.
func BenchmarkURL(b *testing.B) {
	pgtest.URL(b) // starts the cluster
	for b.Loop() {
		pgtest.URL(b)
	}
}

// BenchmarkCluster measures what a cluster of its own costs a test.
func BenchmarkCluster(b *testing.B) {
	for b.Loop() {
		pgtest.Cluster(b)
	}
}
