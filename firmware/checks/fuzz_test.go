package checks_test

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestFuzz runs the fuzz targets of tests/fuzz.c for a fixed number of
// executions, from one seed, so that a run says the same each time.
func TestFuzz(t *testing.T) {
	t.Parallel()
	needs(t, "clang", "clang libclang-rt-14-dev")
	for _, target := range []string{"HANDSHAKE", "STREAM", "FRAMES", "MESSAGES_", "RESTORE"} {
		t.Run(target, func(t *testing.T) {
			t.Parallel()
			program := compile(t, "clang", []string{"-g", "-O1", "-DWHAT=" + target, "-DMOORING_MESSAGES=1", "-fsanitize=fuzzer,address,undefined", "-fno-sanitize-recover=all"}, "tests/fuzz.c")
			output := run(t, program, "-runs=4000", "-seed=1", "-artifact_prefix="+t.TempDir()+"/")
			require.Contains(t, output, "Done 4000 runs")
		})
	}
}
