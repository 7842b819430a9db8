package checks_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Bounds in bytes, for every processor: what firmware/README.md promises. Code
// is .text and .rodata of mooring.o at -Os.
const (
	mostState     = 512 // sizeof(struct mooring)
	mostStack     = 364 // the deepest chain of calls, callbacks not counted
	stackOfMemory = 32  // memcpy, memset, strlen, libgcc: at most, each
)

// builds are ways to compile the client, with the most code that each may take: by
// itself, and of it in the least device.
var builds = []struct {
	what         string
	flags        []string
	code, linked int
}{
	{"whole messages alone", []string{"-DMOORING_WEBSOCKET=0"}, 4800, 4600},
	{"bytes alone", nil, 6144, 6020},
	{"bytes, no flash", []string{"-DMOORING_FLASH=0"}, 5970, 5935},
	{"bytes, platform's SHA-1", []string{"-DMOORING_SHA1=mbedtls_sha1"}, 6000, 5815},
	{"both", []string{"-DMOORING_MESSAGES=1"}, 6405, 6210},
}

var (
	nodeLine = regexp.MustCompile(`node: \{ title: "([^"]+)" label: "[^"]*?(?:\\n(\d+) bytes \(([a-z,]+)\))?"`)
	edgeLine = regexp.MustCompile(`edge: \{ sourcename: "([^"]+)" targetname: "([^"]+)"`)
)

// deepest sums the stack of the longest chain of calls in GCC's call graph.
func deepest(t *testing.T, graph string) (bytes int, chain string) {
	t.Helper()
	frame, calls := map[string]int{}, map[string][]string{}
	for line := range strings.Lines(graph) {
		if node := nodeLine.FindStringSubmatch(line); node != nil {
			frame[node[1]] = stackOfMemory
			if node[2] != "" {
				require.NotContains(t, node[3], "dynamic", "the stack of %s has no bound", node[1])
				frame[node[1]], _ = strconv.Atoi(node[2])
			}
			if node[1] == "__indirect_call" {
				frame[node[1]] = 0 // callbacks are the caller's
			}
		} else if edge := edgeLine.FindStringSubmatch(line); edge != nil {
			calls[edge[1]] = append(calls[edge[1]], edge[2])
		}
	}
	require.Greater(t, len(frame), 20, "the call graph was not read")
	open := map[string]bool{}
	var walk func(name string) (int, string)
	walk = func(name string) (int, string) {
		require.False(t, open[name], "%s calls itself", name)
		open[name] = true
		defer delete(open, name)
		most, rest := 0, ""
		for _, target := range calls[name] {
			if sum, text := walk(target); sum > most {
				most, rest = sum, text
			}
		}
		return frame[name] + most, fmt.Sprintf("%s %d  %s", strings.TrimPrefix(name, "mooring.c:"), frame[name], rest)
	}
	for name := range frame {
		if sum, text := walk(name); sum > bytes {
			bytes, chain = sum, text
		}
	}
	return bytes, strings.ReplaceAll(chain, "../", "")
}

// TestSize compiles the client as for a device, prints what it takes, and holds
// it to its bounds.
func TestSize(t *testing.T) {
	t.Parallel()
	needs(t, "arm-none-eabi-gcc", "gcc-arm-none-eabi libnewlib-arm-none-eabi")
	table := &strings.Builder{}
	fmt.Fprintf(table, "%-14s %-24s %6s %6s %6s\n", "", "", "code", "state", "stack")
	for _, processor := range []string{"cortex-m0plus", "cortex-m4"} {
		for _, build := range builds {
			folder := t.TempDir()
			object := filepath.Join(folder, "mooring.o")
			flags := append([]string{"-std=c99", "-Os", "-mthumb", "-mcpu=" + processor}, build.flags...)
			run(t, "arm-none-eabi-gcc", append(flags, "-fcallgraph-info=su", "-c", "-o", object, "../mooring.c")...)
			code := 0
			for line := range strings.Lines(run(t, "arm-none-eabi-size", "-A", object)) {
				fields := strings.Fields(line)
				if len(fields) > 1 && (strings.HasPrefix(fields[0], ".text") || strings.HasPrefix(fields[0], ".rodata")) {
					size, err := strconv.Atoi(fields[1])
					require.NoError(t, err)
					code += size
				} else if len(fields) > 1 && (strings.HasPrefix(fields[0], ".data") || strings.HasPrefix(fields[0], ".bss")) {
					require.Equal(t, "0", fields[1], "%s: the client has no globals", fields[0])
				}
			}
			graph, err := os.ReadFile(filepath.Join(folder, "mooring.ci"))
			require.NoError(t, err)
			stack, chain := deepest(t, string(graph))
			state := stateSize(t, folder, flags)
			fmt.Fprintf(table, "%-14s %-24s %6d %6d %6d  %s\n", processor, build.what, code, state, stack, chain)
			require.Positive(t, code)
			require.LessOrEqual(t, code, build.code, "%s, %s: bytes of code", processor, build.what)
			require.LessOrEqual(t, state, mostState, "bytes of struct mooring")
			require.LessOrEqual(t, stack, mostStack, "bytes of stack: %s", chain)
		}
	}
	t.Logf("bytes at -Os, by %s\n%s", strings.SplitN(run(t, "arm-none-eabi-gcc", "--version"), "\n", 2)[0], table)
}

// stateSize asks the compiler for sizeof(struct mooring).
func stateSize(t *testing.T, folder string, flags []string) int {
	t.Helper()
	source, object := filepath.Join(folder, "state.c"), filepath.Join(folder, "state.o")
	require.NoError(t, os.WriteFile(source, []byte("#include \"mooring.h\"\nchar state[sizeof(struct mooring)];\n"), 0o600))
	run(t, "arm-none-eabi-gcc", append(flags, "-I..", "-c", "-o", object, source)...)
	for line := range strings.Lines(run(t, "arm-none-eabi-nm", "-S", object)) {
		if fields := strings.Fields(line); len(fields) == 4 && fields[3] == "state" {
			size, err := strconv.ParseInt(fields[1], 16, 32)
			require.NoError(t, err)
			return int(size)
		}
	}
	require.FailNow(t, "no size")
	return 0
}
