//go:build linux || darwin

package pgtest

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"mooring/storage/embedded"
)

var databases atomic.Int64

// URL returns the connection URL, for the owning role, of a fresh database with
// the newest schema. Every call makes another one; it is dropped when the test
// ends, even if connections to it are left open.
func URL(tb testing.TB) string {
	tb.Helper()
	s := require(tb)
	s.template.Do(func() { s.templateErr = s.makeTemplate() })
	if s.templateErr != nil {
		tb.Fatalf("pgtest: make the database that tests copy: %v", s.templateErr)
	}
	return s.database(tb, templateName)
}

// EmptyURL is like URL, but the database is empty: no schema, no tables.
func EmptyURL(tb testing.TB) string {
	tb.Helper()
	return require(tb).database(tb, "template0")
}

// ReaderURL returns the URL of the same database as URL returned, for the role
// mooring_reader, which may only read.
func ReaderURL(tb testing.TB, ownerURL string) string {
	tb.Helper()
	return withDatabase(tb, require(tb).cluster.ReaderURL(), databaseOf(tb, ownerURL))
}

// SuperuserURL returns the URL of the same database for the superuser, for
// tests that end other sessions or look at what only Postgres sees.
func SuperuserURL(tb testing.TB, ownerURL string) string {
	tb.Helper()
	return withDatabase(tb, require(tb).cluster.SuperuserURL(), databaseOf(tb, ownerURL))
}

// require returns the shared cluster, or skips or fails the test.
func require(tb testing.TB) *server {
	tb.Helper()
	s, err := sharedServer()
	if err != nil {
		unavailable(tb, err)
	}
	return s
}

// unavailable ends a test that can't have Postgres. A laptop without it is
// excused; a build server is not, and neither is a Postgres that is there but
// does not work.
func unavailable(tb testing.TB, err error) {
	tb.Helper()
	missing, ok := errors.AsType[*embedded.NotInstalledError](err)
	if !ok || os.Getenv("CI") == "true" {
		tb.Fatalf("pgtest: %v", err)
	}
	tb.Skipf("pgtest: needs a PostgreSQL server; install one with: %s (%v)", missing.Command, err)
}

func (s *server) makeTemplate() error {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	if err := s.execute(ctx, "CREATE DATABASE "+templateName+" OWNER mooring TEMPLATE template0"); err != nil {
		return err
	}
	address, err := replaceDatabase(s.cluster.URL(), templateName)
	if err != nil {
		return err
	}
	return migrateSchema(ctx, address)
}

func (s *server) database(tb testing.TB, template string) string {
	tb.Helper()
	name := "test_" + strconv.FormatInt(databases.Add(1), 10)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := s.execute(ctx, "CREATE DATABASE "+name+" OWNER mooring TEMPLATE "+template+" STRATEGY file_copy"); err != nil {
		tb.Fatalf("pgtest: %v", err)
	}
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := s.execute(ctx, "DROP DATABASE "+name+" WITH (FORCE)"); err != nil {
			tb.Errorf("pgtest: %v", err)
		}
	})
	return withDatabase(tb, s.cluster.URL(), name)
}

func withDatabase(tb testing.TB, address, name string) string {
	tb.Helper()
	changed, err := replaceDatabase(address, name)
	if err != nil {
		tb.Fatalf("pgtest: %v", err)
	}
	return changed
}

func replaceDatabase(address, name string) (string, error) {
	parsed, err := url.Parse(address)
	if err != nil {
		return "", fmt.Errorf("connection URL: %w", err)
	}
	parsed.Path = "/" + name
	return parsed.String(), nil
}

func databaseOf(tb testing.TB, address string) string {
	tb.Helper()
	parsed, err := url.Parse(address)
	if err != nil || len(parsed.Path) < 2 {
		tb.Fatal("pgtest: not a connection URL that URL or EmptyURL returned")
	}
	return parsed.Path[1:]
}
