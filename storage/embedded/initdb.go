//go:build linux || darwin

package embedded

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// newClusterPrefix starts the names of clusters in the making.
const newClusterPrefix = "cluster.new-"

// passwordFile tells initdb the superuser's password; in a file, because
// command lines can be read by everybody.
const passwordFile = "password"

// clusterMajor reads which major version made the cluster; found is false if
// there is no cluster yet.
func clusterMajor(clusterDir string) (major string, found bool, err error) {
	_, found, err = ownerOf(clusterDir)
	if err != nil || !found {
		return "", false, err
	}
	inside, err := os.OpenRoot(clusterDir)
	if err != nil {
		return "", false, fmt.Errorf("read the version of the cluster: %w", err)
	}
	defer inside.Close()
	content, err := inside.ReadFile("PG_VERSION")
	if errors.Is(err, fs.ErrNotExist) {
		return "", false, fmt.Errorf("%s is there but holds no Postgres cluster (PG_VERSION is missing). Nothing was changed; move it away, or choose another data directory", clusterDir)
	}
	if err != nil {
		return "", false, fmt.Errorf("read the version of the cluster: %w", err)
	}
	return strings.TrimSpace(string(content)), true, nil
}

// removeUnfinished removes what an interrupted createCluster left behind.
func removeUnfinished(dataDir string) error {
	entries, err := os.ReadDir(dataDir)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), newClusterPrefix) {
			err = errors.Join(err, os.RemoveAll(filepath.Join(dataDir, entry.Name())))
		}
	}
	return err
}

// createCluster runs initdb beside the cluster's place and renames the result
// into it, so that a cluster is there completely or not at all.
func createCluster(ctx context.Context, config Config, who account, installation Installation, clusterDir, superuserPassword string) error {
	dataDir := filepath.Dir(clusterDir)
	data, err := os.OpenRoot(dataDir)
	if err != nil {
		return fmt.Errorf("make a cluster: %w", err)
	}
	defer data.Close()
	name := newClusterPrefix + rand.Text()
	if err := data.Mkdir(name, 0o700); err != nil {
		return fmt.Errorf("make a cluster: %w", err)
	}
	defer func() { _ = data.RemoveAll(name) }()
	inside, err := handOver(data, name, who, superuserPassword)
	if err != nil {
		return fmt.Errorf("make a cluster: %w", err)
	}
	defer inside.Close()

	// These paths are for initdb, which runs as the account.
	work := filepath.Join(dataDir, name)
	secret := filepath.Join(work, passwordFile)
	arguments := []string{
		"--pgdata=" + filepath.Join(work, "cluster"),
		"--username=" + superuserRole,
		"--pwfile=" + secret,
		"--auth=scram-sha-256",
		"--encoding=UTF8",
		// Bytewise order: the fastest, and no change of the system's locales
		// can ever damage an index.
		"--locale=C",
	}
	if config.Unsafe {
		arguments = append(arguments, "--no-sync")
		if installation.Major >= 18 {
			arguments = append(arguments, "--no-data-checksums")
		}
	} else {
		arguments = append(arguments, "--data-checksums")
	}
	output, err := who.run(ctx, config.Throwaway, work, installation.program("initdb"), "", arguments...)
	if err != nil {
		return &StartError{Step: "initdb", Err: err, Tail: lastLines(output, 20)}
	}

	if err := configureCluster(inside); err != nil {
		return fmt.Errorf("make a cluster: %w", err)
	}
	if err := data.Rename(filepath.Join(name, "cluster"), filepath.Base(clusterDir)); err != nil {
		return fmt.Errorf("make a cluster: %w", err)
	}
	if config.Unsafe {
		return nil
	}
	return syncDirectory(dataDir)
}

// handOver puts the password into the new directory, gives both to the account
// and returns the directory. Whoever owns the data directory may have put
// something else in the new one's place meanwhile; see files.go.
func handOver(data *os.Root, name string, who account, superuserPassword string) (_ *os.Root, err error) {
	inside, err := data.OpenRoot(name)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, inside.Close())
		}
	}()
	directory, err := inside.Open(".")
	if err != nil {
		return nil, err
	}
	defer directory.Close()
	if who.drop {
		info, err := directory.Stat()
		if err != nil {
			return nil, err
		}
		stat, ok := info.Sys().(*syscall.Stat_t)
		_, empty := directory.Readdirnames(1)
		if !ok || int(stat.Uid) != os.Geteuid() || !errors.Is(empty, io.EOF) {
			return nil, fmt.Errorf("%s is not the directory that was just made: somebody put another in its place", directory.Name())
		}
	}
	secret, err := inside.OpenFile(passwordFile, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	_, err = secret.WriteString(superuserPassword + "\n")
	if err := errors.Join(err, who.give(secret), secret.Close()); err != nil {
		return nil, err
	}
	return inside, who.give(directory)
}

// configureCluster writes what stays as it is for the life of the cluster; the
// rest is in the settings file.
func configureCluster(work *os.Root) error {
	// The directory belongs to the user that runs Postgres; see files.go.
	info, err := work.Lstat("cluster")
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return fmt.Errorf("%s is no directory", filepath.Join(work.Name(), "cluster"))
	}
	inside, err := work.OpenRoot("cluster")
	if err != nil {
		return err
	}
	defer inside.Close()
	access := "# Written by Mooring once; yours to change.\nhost all all 127.0.0.1/32 scram-sha-256\n"
	if err := inside.WriteFile("pg_hba.conf", []byte(access), 0o600); err != nil {
		return err
	}
	file, err := inside.OpenFile("postgresql.conf", os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	_, err = file.WriteString("\ninclude_if_exists = '" + settingsFile + "'\n")
	return errors.Join(err, file.Sync(), file.Close())
}

func lastLines(text string, count int) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-count):], "\n")
}
