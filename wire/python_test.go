package wire

import (
	"os"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestVectorsAgreeWithPython has another MessagePack implementation decode and
// encode the vectors.
func TestVectorsAgreeWithPython(t *testing.T) {
	t.Parallel()
	python := ""
	// The module comes with the system's Python (Debian: python3-msgpack), which
	// need not be the first in the path.
	for _, candidate := range []string{"python3", "/usr/bin/python3"} {
		if exec.CommandContext(t.Context(), candidate, "-c", "import msgpack").Run() == nil {
			python = candidate
			break
		}
	}
	if python == "" {
		if os.Getenv("CI") == "true" {
			t.Fatal("no python3 with the module msgpack; install python3-msgpack")
		}
		t.Skip("no python3 with the module msgpack (Debian: python3-msgpack)")
	}
	arguments := append([]string{"testdata/agree.py"}, vectorFiles(t)...)
	output, err := exec.CommandContext(t.Context(), python, arguments...).CombinedOutput()
	require.NoError(t, err, "%s", output)
	t.Logf("%s", output)
}
