//go:build linux || darwin

package embedded

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// fakePrograms makes a folder of programs that are shell scripts.
func fakePrograms(t *testing.T, scripts map[string]string) string {
	t.Helper()
	directory := filepath.Join(publicDir(t), "bin")
	require.NoError(t, os.Mkdir(directory, 0o755))
	for name, script := range scripts {
		require.NoError(t, os.WriteFile(filepath.Join(directory, name), []byte("#!/bin/sh\n"+script+"\n"), 0o755))
	}
	return directory
}

func TestUnusableInstallations(t *testing.T) {
	t.Parallel()
	version := func(text string) string { return "echo 'postgres (PostgreSQL) " + text + "'" }
	for name, test := range map[string]struct {
		scripts map[string]string
		reason  string
	}{
		"client only":  {map[string]string{"psql": ""}, "postgres is missing (is only the client installed?)"},
		"no initdb":    {map[string]string{"postgres": version("15.1")}, "initdb is missing (is only the client installed?)"},
		"too old":      {map[string]string{"postgres": version("14.9"), "initdb": ""}, "version 14.9 is not supported (15 to 18 are)"},
		"too new":      {map[string]string{"postgres": version("19beta1"), "initdb": ""}, "version 19beta1 is not supported (15 to 18 are)"},
		"broken":       {map[string]string{"postgres": "echo no such library >&2; exit 127", "initdb": ""}, "postgres --version: exit status 127 no such library"},
		"not Postgres": {map[string]string{"postgres": "echo hello", "initdb": ""}, `postgres --version said "hello"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			directory := fakePrograms(t, test.scripts)
			_, err := Start(t.Context(), Config{DataDir: filepath.Join(filepath.Dir(directory), "data"), BinDir: directory})
			var missing *NotInstalledError
			require.ErrorAs(t, err, &missing)
			require.Equal(t, []string{directory + ": " + test.reason}, missing.Skipped)
			require.Contains(t, err.Error(), missing.Command)
			require.Contains(t, err.Error(), test.reason)
		})
	}
}

func TestIncompleteInstallationIsPassedOver(t *testing.T) { //nolint:paralleltest // sets PATH
	testConfig(t) // or skip
	incomplete := fakePrograms(t, map[string]string{"postgres": "echo 'postgres (PostgreSQL) 18.1'"})
	t.Setenv("PATH", incomplete+":"+os.Getenv("PATH"))
	look := search{binDir: os.Getenv("MOORING_TEST_POSTGRES_BIN")}
	if look.binDir != "" {
		t.Skip("one installation was chosen")
	}
	found, ok := look.find(t.Context())
	require.True(t, ok)
	require.NotEqual(t, incomplete, found.BinDir)
	require.Equal(t, []string{incomplete + ": initdb is missing (is only the client installed?)"}, look.skipped)
}

func TestInstallationByMajorVersion(t *testing.T) { //nolint:paralleltest // sets PATH
	sixteen := fakePrograms(t, map[string]string{"postgres": "echo 'postgres (PostgreSQL) 16.4 (Debian 16.4-1)'", "initdb": ""})
	t.Setenv("PATH", sixteen+":"+os.Getenv("PATH"))
	look := search{major: 16}
	found, ok := look.find(t.Context())
	require.True(t, ok)
	require.Equal(t, Installation{BinDir: sixteen, Version: "16.4", Major: 16}, found)

	look = search{major: 99}
	_, ok = look.find(t.Context())
	require.False(t, ok)
	require.Contains(t, look.others, "16.4 in "+sixteen)
}

func TestFolderVersions(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]int{
		"/usr/lib/postgresql/17/bin": 17, "/usr/pgsql-16/bin": 16, "/opt/homebrew/opt/postgresql@18/bin": 18,
		"/usr/lib/postgresql15/bin": 15, "/usr/libexec/postgresql17": 17, "/usr/local/pgsql/bin": 0,
	} {
		require.Equal(t, want, versionInPath(path), path)
	}
}

func TestInstallCommand(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		system, release string
		root            bool
		major           int
		want            string
	}{
		"debian, root": {"linux", "NAME=\"Debian GNU/Linux\"\nID=debian\n", true, 0, "apt-get update && apt-get install -y postgresql"},
		"ubuntu":       {"linux", "ID=ubuntu\nID_LIKE=debian\n", false, 16, "sudo apt-get update && sudo apt-get install -y postgresql-16"},
		"mint":         {"linux", "ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n", false, 0, "sudo apt-get update && sudo apt-get install -y postgresql"},
		"fedora":       {"linux", "ID=fedora\n", true, 0, "dnf install -y postgresql-server"},
		"rocky 9":      {"linux", "ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\nVERSION_ID=\"9.4\"\n", true, 0, "dnf module install -y postgresql:16/server"},
		"rhel 10":      {"linux", "ID=\"rhel\"\nVERSION_ID=\"10.0\"\n", true, 0, "dnf install -y postgresql-server"},
		"alpine":       {"linux", "ID=alpine\n", true, 0, "apk add postgresql17"},
		"arch":         {"linux", "ID=arch\n", false, 0, "sudo pacman -S postgresql"},
		"suse":         {"linux", "ID=\"opensuse-leap\"\nID_LIKE=\"suse opensuse\"\n", true, 17, "zypper install postgresql17-server"},
		"macOS":        {"darwin", "", false, 0, "brew install postgresql@18"},
		"macOS, 16":    {"darwin", "", false, 16, "brew install postgresql@16"},
		"unknown":      {"linux", "", true, 0, "(the package manager of this system) install postgresql, server included"},
	} {
		require.Equal(t, test.want, installCommandFor(test.system, test.release, test.root, test.major), name)
	}
}
