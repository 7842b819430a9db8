//go:build linux

package faults_test

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mooring/internal/faults"
	"mooring/internal/pgtest"
)

// smallDisk mounts a file system of so many bytes.
func smallDisk(t *testing.T, size string) string {
	t.Helper()
	directory := pgtest.Dir(t)
	if err := syscall.Mount("tmpfs", directory, "tmpfs", 0, "mode=0777,size="+size); err != nil {
		faults.Unable(t, "mount a small file system", err)
	}
	t.Cleanup(func() { require.NoError(t, syscall.Unmount(directory, syscall.MNT_DETACH)) })
	return directory
}

// fill takes all the room that is left; the file's removal gives it back.
func fill(t *testing.T, directory string) (balloon string) {
	t.Helper()
	balloon = filepath.Join(directory, "balloon")
	file, err := os.Create(balloon)
	require.NoError(t, err)
	defer file.Close()
	block := make([]byte, 1<<20)
	for size := len(block); size >= 4096; size /= 2 {
		for err = nil; err == nil; {
			_, err = file.Write(block[:size])
		}
		require.ErrorIs(t, err, syscall.ENOSPC)
	}
	return balloon
}

// The log of transactions is on the same disk: PostgreSQL refuses rows, or, when
// it can't write the log, stops with a PANIC and tries to recover until there is
// room again.
func TestFaultDiskFull(t *testing.T) {
	t.Parallel()
	disk := smallDisk(t, "300m")
	s := faults.Start(t, faults.Options{
		Expect:      "a full disk keeps rows waiting, whether PostgreSQL refuses them or falls over; when there is room again they are stored",
		OwnPostgres: true, Base: disk,
		Settings: map[string]string{"min_wal_size": "32MB", "max_wal_size": "64MB", "wal_init_zero": "on"},
	})
	load := s.Load(faults.LoadOptions{Devices: 20, Rate: 5000})
	for range 2 {
		load.AwaitAcked(2000)
		balloon := fill(t, disk)
		s.Injected("disk full")
		s.Await("rows to wait", func() error {
			acked := load.Acked()
			time.Sleep(time.Second)
			if load.Acked() != acked {
				return errors.New("rows are still acknowledged")
			}
			return nil
		})
		require.NoError(t, os.Remove(balloon))
		load.AwaitAcked(2000)
	}
	s.Verdict()
}

// Only the samples' disk is full: the rest of PostgreSQL works.
func TestFaultTablespaceFull(t *testing.T) {
	t.Parallel()
	disk := smallDisk(t, "64m")
	space := filepath.Join(disk, "space")
	require.NoError(t, os.Mkdir(space, 0o700))
	s := faults.Start(t, faults.Options{
		Expect:      "samples whose tablespace is full wait; with room again they are stored",
		OwnPostgres: true, NoServer: true,
	})
	owner, err := os.Stat(filepath.Join(s.Postgres.Info().DataDir, "cluster"))
	require.NoError(t, err)
	stat := owner.Sys().(*syscall.Stat_t)
	require.NoError(t, os.Chown(space, int(stat.Uid), int(stat.Gid)))
	s.SQL("CREATE TABLESPACE small LOCATION '"+space+"'", "GRANT CREATE ON TABLESPACE small TO PUBLIC",
		"ALTER ROLE mooring SET default_tablespace = small") // so partitions are made there
	s.Server.Start()
	load := s.Load(faults.LoadOptions{Devices: 20, Rate: 5000})
	for range 3 {
		load.AwaitAcked(2000)
		said := len(s.Server.Log())
		balloon := fill(t, disk)
		s.Injected("tablespace full")
		noneAcked(t, s, load, said, "53100", 2*time.Second)
		require.NoError(t, os.Remove(balloon))
	}
	load.AwaitAcked(2000)
	s.Verdict()
}
