//go:build linux || darwin

package pgtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
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
		cluster, shared.err = start(nil)
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

// start starts a throwaway cluster. Its folder is not made by t.TempDir, whose
// folders the user who runs Postgres for root may not enter.
func start(settings map[string]string) (*embedded.Cluster, error) {
	directory, err := temporary()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	cluster, err := embedded.Start(ctx, embedded.Config{
		DataDir: directory, BinDir: os.Getenv(binVariable), Settings: settings,
		Throwaway: true, Unsafe: true, Download: embedded.DownloadNever,
	})
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(directory))
	}
	return cluster, nil
}

// temporary makes a folder that every user may enter.
func temporary() (string, error) {
	base := os.TempDir()
	if os.Geteuid() == 0 && filepath.Clean(base) != "/tmp" {
		base = "/tmp" // root's own may be closed to others
	}
	directory, err := os.MkdirTemp(base, "mooring-pgtest-")
	if err != nil {
		return "", err
	}
	return directory, os.Chmod(directory, 0o711) //nolint:gosec // as a data directory is
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
