package demo

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"mooring/storage"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A demo whose database loses one row after the ack must say so. Not parallel:
// it sets beforeVerdict and the folder for temporary files.
func TestDemoFindsLostRow(t *testing.T) {
	//nolint:usetesting // the user that runs PostgreSQL must be able to enter it
	directory, err := os.MkdirTemp("", "mooring-demo-test-")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(directory)) })
	require.NoError(t, os.Chmod(directory, 0o755))
	t.Setenv("TMPDIR", directory)

	for name, c := range map[string]struct {
		sql  string
		says string
	}{
		"a simulated device's": {"DELETE FROM mooring.samples WHERE ctid = (SELECT min(s.ctid) FROM mooring.samples s JOIN mooring.devices d ON d.id = s.device_id WHERE d.name = 'sim-1') RETURNING 1", "missing: sim-1"},
		"this machine's":       {"DELETE FROM mooring.samples s USING mooring.devices d WHERE d.id = s.device_id AND d.name NOT LIKE 'sim-%' RETURNING 1", "0 stored: NOT CLEAN"},
		"none":                 {"SELECT 1", "clean"},
	} {
		t.Run(name, func(t *testing.T) {
			beforeVerdict = func(ctx context.Context, d *demo) error {
				reader, err := storage.OpenReader(ctx, d.server.DatabaseURL())
				if err != nil {
					return err
				}
				defer reader.Close()
				_, rows, err := reader.Table(ctx, c.sql)
				require.NotEmpty(t, rows)
				return err
			}
			var out bytes.Buffer
			err := Run(t.Context(), t.Context(), Config{
				For: 1500 * time.Millisecond, Devices: 3, Rate: 50, Program: "mooring", Out: &out,
				Logger: func(w io.Writer) *slog.Logger {
					return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelWarn}))
				},
			})
			if name == "none" {
				require.NoError(t, err, out.String())
			} else {
				require.ErrorIs(t, err, ErrNotClean, out.String())
			}
			require.Contains(t, out.String(), c.says)
			require.Regexp(t, `http://127\.0\.0\.1:\d+/#login=mru_\S+`, out.String())
			left, err := os.ReadDir(directory)
			require.NoError(t, err)
			require.Empty(t, left, "nothing is left behind")
		})
	}
}
