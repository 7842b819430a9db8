package archtest_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"mooring/internal/archtest"
)

// TestImports reads every Go file of the module and holds its imports against
// the rules.
func TestImports(t *testing.T) {
	t.Parallel()
	imports := readImports(t, "../..")
	require.Greater(t, len(imports), 20, "the test must see the module's files")
	for _, i := range imports {
		if complaint := archtest.Check(i); complaint != "" {
			t.Error(complaint)
		}
	}
}

// TestRulesCanFail plants violations: a rule that never fails checks nothing.
func TestRulesCanFail(t *testing.T) {
	t.Parallel()
	for _, i := range []archtest.Import{
		{"wire/decode.go", "mooring/ingest"},
		{"ingest/session.go", "mooring/storage"},
		{"ingest/session.go", "mooring/devices"},
		{"ingest/session_test.go", "mooring/storage"},
		{"storage/write.go", "mooring/devices"},
		{"storage/write.go", "mooring/migrations"},
		{"storage/write.go", "mooring/storage/embedded"},
		{"storage/embedded/cluster.go", "mooring/storage"},
		{"devices/cache.go", "mooring/internal/pgtest"},
		{"client/client.go", "mooring/ingest"},
		{"ingest/session.go", "mooring/cmd/internal/app"},
		{"cmd/mooring/main.go", "mooring/internal/pgtest"},
		{"cmd/internal/app/app.go", "github.com/jackc/pgx/v5"},
		{"cmd/internal/app/app.go", "github.com/jackc/pgx/v5/pgxpool"},
		{"cmd/internal/fleet/fault.go", "github.com/lxzan/gws"},
		{"ingest/session.go", "github.com/vmihailenco/msgpack/v5"},
		{"ingest/session.go", "github.com/alecthomas/kong"},
		{"novelty/a.go", "mooring/wire"},
	} {
		require.NotEmpty(t, archtest.Check(i), "%+v", i)
	}
	for _, i := range []archtest.Import{
		{"wire/decode.go", "github.com/vmihailenco/msgpack/v5"},
		{"wire/decode_test.go", "mooring/wire"},
		{"ingest/session.go", "mooring/wire"},
		{"ingest/session.go", "github.com/lxzan/gws"},
		{"storage/write_test.go", "mooring/internal/pgtest"},
		{"cmd/internal/app/app.go", "mooring/storage/embedded"},
		{"cmd/mooring/serve_test.go", "mooring/internal/pgtest"},
		{"client/client.go", "wirelike/mooring"},
	} {
		require.Empty(t, archtest.Check(i), "%+v", i)
	}
}

// TestReadImportsSeesViolation runs the reading half on a made-up module.
func TestReadImportsSeesViolation(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(root, "ingest", "testdata"), 0o750))
	require.NoError(t, os.WriteFile(filepath.Join(root, "ingest", "session_windows.go"),
		[]byte("package ingest\n\nimport _ \"mooring/storage\"\n"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(root, "ingest", "testdata", "x.go"), []byte("nonsense"), 0o600))

	imports := readImports(t, root)
	require.Equal(t, []archtest.Import{{File: "ingest/session_windows.go", Target: "mooring/storage"}}, imports)
	require.Contains(t, archtest.Check(imports[0]), "ingest may import only [wire ingest/door]")
}

func readImports(t *testing.T, root string) []archtest.Import {
	t.Helper()
	var imports []archtest.Import
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := entry.Name()
		if entry.IsDir() {
			if path != root && (name == "testdata" || name == "vendor" || strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_")) {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		for _, clause := range file.Imports {
			target, err := strconv.Unquote(clause.Path.Value)
			if err != nil {
				return err
			}
			imports = append(imports, archtest.Import{File: filepath.ToSlash(relative), Target: target})
		}
		return nil
	})
	require.NoError(t, err)
	return imports
}
