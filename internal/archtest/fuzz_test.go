package archtest_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestFuzzTargetsAreFound sees that .ci/fuzz, which goes by the text of the
// files, finds every target that the compiler finds: none can be forgotten.
func TestFuzzTargetsAreFound(t *testing.T) {
	t.Parallel()
	targets := fuzzTargets(t, "../..")
	require.Greater(t, len(targets), 10, "the test must see the module's targets")
	listed, err := exec.Command("../../.ci/fuzz", "list").Output()
	require.NoError(t, err)
	require.Equal(t, targets, strings.Split(strings.TrimSpace(string(listed)), "\n"))
}

// fuzzTargets are "folder Name" of every function that go test takes for a fuzz
// target, sorted.
func fuzzTargets(t *testing.T, root string) []string {
	t.Helper()
	var targets []string
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		folder, err := filepath.Rel(root, filepath.Dir(path))
		if err != nil {
			return err
		}
		for _, declaration := range file.Decls {
			if f, ok := declaration.(*ast.FuncDecl); ok && f.Recv == nil && takesF(f) {
				targets = append(targets, filepath.ToSlash(folder)+" "+f.Name.Name)
			}
		}
		return nil
	})
	require.NoError(t, err)
	slices.Sort(targets)
	return targets
}

// takesF tells a fuzz target from its helpers: Fuzz..., and one *testing.F alone.
func takesF(f *ast.FuncDecl) bool {
	parameters := f.Type.Params.List
	if !strings.HasPrefix(f.Name.Name, "Fuzz") || len(parameters) != 1 || len(parameters[0].Names) != 1 {
		return false
	}
	pointer, ok := parameters[0].Type.(*ast.StarExpr)
	if !ok {
		return false
	}
	kind, ok := pointer.X.(*ast.SelectorExpr)
	return ok && kind.Sel.Name == "F"
}
