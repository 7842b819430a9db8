//go:build linux || darwin

package embedded

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// newClusterPrefix starts the names of clusters in the making.
const newClusterPrefix = "cluster.new-"

// clusterMajor reads which major version made the cluster; found is false if
// there is no cluster yet.
func clusterMajor(clusterDir string) (major string, found bool, err error) {
	_, err = os.Stat(clusterDir)
	if errors.Is(err, fs.ErrNotExist) {
		return "", false, nil
	}
	if err != nil {
		return "", false, err
	}
	content, err := os.ReadFile(filepath.Join(clusterDir, "PG_VERSION"))
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
	work, err := os.MkdirTemp(filepath.Dir(clusterDir), newClusterPrefix)
	if err != nil {
		return fmt.Errorf("make a cluster: %w", err)
	}
	defer os.RemoveAll(work)
	// In a file, because command lines can be read by everybody.
	secret := filepath.Join(work, "password")
	if err := os.WriteFile(secret, []byte(superuserPassword+"\n"), 0o600); err != nil {
		return fmt.Errorf("make a cluster: %w", err)
	}
	if err := errors.Join(who.give(secret), who.give(work)); err != nil {
		return err
	}

	made := filepath.Join(work, "cluster")
	arguments := []string{
		"--pgdata=" + made,
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

	if err := configureCluster(made); err != nil {
		return fmt.Errorf("make a cluster: %w", err)
	}
	if err := os.Rename(made, clusterDir); err != nil {
		return fmt.Errorf("make a cluster: %w", err)
	}
	if config.Unsafe {
		return nil
	}
	return syncDirectory(filepath.Dir(clusterDir))
}

// configureCluster writes what stays as it is for the life of the cluster; the
// rest is in the settings file.
func configureCluster(made string) error {
	// The directory belongs to the user that runs Postgres; see files.go.
	inside, err := os.OpenRoot(made)
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
