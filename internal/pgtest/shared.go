//go:build linux || darwin

package pgtest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"mooring/storage/embedded"
)

const (
	templateName = "mooring_template"
	binVariable  = "MOORING_TEST_POSTGRES_BIN"
	startTimeout = 2 * time.Minute
)

// server is the cluster that all tests of a process share.
type server struct {
	cluster *embedded.Cluster

	template    sync.Once
	templateErr error
}

var shared struct {
	sync.Mutex
	server *server
	err    error
	began  bool
}

// sharedServer starts the shared cluster at its first call.
func sharedServer() (*server, error) {
	shared.Lock()
	defer shared.Unlock()
	if !shared.began {
		shared.began = true
		var cluster *embedded.Cluster
		cluster, shared.err = start(nil, "")
		if shared.err == nil {
			shared.server = &server{cluster: cluster}
		}
	}
	return shared.server, shared.err
}

// stopShared stops the shared cluster, if one was started.
func stopShared() error {
	shared.Lock()
	defer shared.Unlock()
	if shared.server == nil {
		return nil
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel() // in a hurry: nothing of it is kept
	err := shared.server.cluster.Stop(ctx)
	shared.server, shared.err = nil, errors.New("pgtest: the shared cluster was stopped")
	return err
}

// start starts a throwaway cluster in the base folder; "": wherever it is fast.
func start(settings map[string]string, base string) (*embedded.Cluster, error) {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	if base == "" {
		var found bool
		if base, found = fastBase(); !found {
			base = publicBase()
		}
	}
	return embedded.Start(ctx, embedded.Config{
		// Made and removed by Start and Stop.
		DataDir: filepath.Join(base, "mooring-pgtest-"+rand.Text()),
		BinDir:  os.Getenv(binVariable), Settings: settings,
		Throwaway: true, Unsafe: true, Download: embedded.DownloadNever,
	})
}

// publicBase is a folder for temporary files that every user may enter: the
// user that runs Postgres for root may not enter the folders of t.TempDir, nor
// perhaps root's own.
func publicBase() string {
	if os.Geteuid() == 0 {
		return "/tmp"
	}
	return os.TempDir()
}

// Dir makes a folder that every user may enter, for tests that run a server
// with an embedded database of its own. It is removed when the test ends.
func Dir(tb testing.TB) string {
	tb.Helper()
	directory, err := os.MkdirTemp(publicBase(), "mooring-pgtest-") //nolint:usetesting // others may not enter t.TempDir's
	if err == nil {
		err = os.Chmod(directory, 0o711) //nolint:gosec // see above
	}
	if err != nil {
		tb.Fatalf("pgtest: %v", err)
	}
	tb.Cleanup(func() {
		if err := os.RemoveAll(directory); err != nil {
			tb.Errorf("pgtest: %v", err)
		}
	})
	return directory
}

// execute runs statements one by one as the superuser.
func (s *server) execute(ctx context.Context, statements ...string) error {
	return execute(ctx, s.cluster.SuperuserURL(), statements...)
}

func execute(ctx context.Context, url string, statements ...string) error {
	connection, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer connection.Close(context.WithoutCancel(ctx))
	for _, statement := range statements {
		if _, err := connection.Exec(ctx, statement); err != nil {
			return fmt.Errorf("%s: %w", statement, err)
		}
	}
	return nil
}
