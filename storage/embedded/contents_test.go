//go:build linux || darwin

package embedded

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestForeignDirectoryIsRefused(t *testing.T) {
	t.Parallel()
	config := testConfig(t)
	require.NoError(t, os.Mkdir(config.DataDir, 0o700))
	for _, name := range []string{"hosts", "lost+found", "passwd", "resolv.conf", "services"} {
		require.NoError(t, os.WriteFile(filepath.Join(config.DataDir, name), nil, 0o600))
	}
	_, err := Start(t.Context(), config)
	var foreign *ForeignError
	require.ErrorAs(t, err, &foreign)
	require.ErrorContains(t, err, "holds what is not Mooring's (hosts, passwd, resolv.conf and 1 more)")
	require.ErrorContains(t, err, "for example "+filepath.Join(config.DataDir, "mooring"))

	entries, err := os.ReadDir(config.DataDir)
	require.NoError(t, err)
	require.Len(t, entries, 5, "nothing was put there")
	require.Equal(t, fs.FileMode(0o700), modeOf(t, config.DataDir))
}

func TestWhatAServerLeavesIsOurs(t *testing.T) {
	t.Parallel()
	config := testConfig(t)
	require.NoError(t, os.Mkdir(config.DataDir, 0o755))
	// A server that died while it made the cluster, on a new disk.
	for _, name := range []string{"lock", "postgres.json", ".postgres.json-17", "postgres.log", "postgres.log.1", "lost+found", newClusterPrefix + "X"} {
		content := ""
		if name == "postgres.json" {
			content = `{"superuser_password":"a","owner_password":"b","reader_password":"c"}`
		}
		require.NoError(t, os.WriteFile(filepath.Join(config.DataDir, name), []byte(content), 0o600))
	}
	require.True(t, answers(t, start(t, config).URL()))
}

func TestClosedDirectoryIsOpenedOnlyIfAllIsOurs(t *testing.T) {
	t.Parallel()
	needsRoot(t)
	config := testConfig(t)
	require.NoError(t, os.Mkdir(config.DataDir, 0o700))
	stop(t, start(t, config))
	require.Equal(t, fs.FileMode(0o711), modeOf(t, config.DataDir))

	require.NoError(t, os.Chmod(config.DataDir, 0o700))
	other := filepath.Join(config.DataDir, "private.txt")
	require.NoError(t, os.WriteFile(other, nil, 0o644))
	_, err := Start(t.Context(), config)
	var foreign *ForeignError
	require.ErrorAs(t, err, &foreign)
	require.ErrorContains(t, err, "more than Mooring's: private.txt")
	require.ErrorContains(t, err, "chmod o+x "+config.DataDir)
	require.Equal(t, fs.FileMode(0o700), modeOf(t, config.DataDir))

	// Where it is open already, a cluster is used whatever lies beside it.
	require.NoError(t, os.Chmod(config.DataDir, 0o711))
	require.True(t, answers(t, start(t, config).URL()))
}

func modeOf(t *testing.T, path string) fs.FileMode {
	t.Helper()
	info, err := os.Stat(path)
	require.NoError(t, err)
	return info.Mode().Perm()
}
