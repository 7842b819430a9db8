//go:build !linux && !darwin

package embedded

import (
	"context"
	"fmt"
	"os"
	"runtime"
)

const (
	oldestMajor = 15
	newestMajor = 18
)

// Cluster can't be had on this operating system: Start always fails.
type Cluster struct{}

func unsupported() error {
	return fmt.Errorf("%w (%s): give the URL of a database instead", ErrUnsupported, runtime.GOOS)
}

// Start fails with ErrUnsupported.
func Start(_ context.Context, config Config) (*Cluster, error) {
	if _, err := config.withDefaults(); err != nil {
		return nil, err
	}
	return nil, unsupported()
}

// Discover fails with ErrUnsupported.
func Discover(string) (Info, error) { return Info{}, unsupported() }

// URL is empty.
func (*Cluster) URL() string { return "" }

// ReaderURL is empty.
func (*Cluster) ReaderURL() string { return "" }

// SuperuserURL is empty.
func (*Cluster) SuperuserURL() string { return "" }

// Info is empty.
func (*Cluster) Info() Info { return Info{} }

// Halt fails with ErrUnsupported.
func (*Cluster) Halt(context.Context, os.Signal) error { return unsupported() }

// Resume fails with ErrUnsupported.
func (*Cluster) Resume(context.Context) error { return unsupported() }

// Stop does nothing.
func (*Cluster) Stop(context.Context) error { return nil }
