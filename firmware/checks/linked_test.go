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

// mostLibraries bounds what it has of libgcc and string.h, which is newlib's
// choice and not ours; it is there to see a division or a float come in.
const mostLibraries = 900

// mapLine is a section of an input file in the linker's map.
var mapLine = regexp.MustCompile(`(?m)^ \.(?:text|rodata)\S*\s+0x([0-9a-f]+)\s+0x([0-9a-f]+) (\S+)$`)

// linked links tests/minimal.c with the client, without what it does not call,
// and gives the bytes of flash of each input file.
func linked(t *testing.T, processor string, switches []string) map[string]int {
	t.Helper()
	folder := t.TempDir()
	flags := append([]string{"-std=c99", "-Os", "-mthumb", "-mcpu=" + processor, "-ffunction-sections", "-fdata-sections"}, switches...)
	var objects []string
	for _, name := range []string{"tests/minimal.c", "mooring.c"} {
		object := filepath.Join(folder, filepath.Base(name)+".o")
		run(t, "arm-none-eabi-gcc", append(flags, "-c", "-o", object, filepath.Join("..", name))...)
		objects = append(objects, object)
	}
	listing := filepath.Join(folder, "map")
	flags = append(flags, "-specs=nano.specs", "-nostartfiles", "-Wl,--gc-sections,-e,reset,-Map="+listing, "-o", filepath.Join(folder, "device"))
	run(t, "arm-none-eabi-gcc", append(flags, objects...)...)
	text, err := os.ReadFile(listing)
	require.NoError(t, err)
	_, placed, found := strings.Cut(string(text), "Linker script and memory map")
	require.True(t, found, "the linker's map was not read")
	bytes := map[string]int{}
	for _, line := range mapLine.FindAllStringSubmatch(placed, -1) {
		if size, err := strconv.ParseInt(line[2], 16, 32); err == nil && strings.Trim(line[1], "0") != "" {
			file := filepath.Base(line[3])
			if archive, _, inside := strings.Cut(file, "("); inside {
				file = archive
			}
			bytes[file] += int(size)
		}
	}
	return bytes
}

// TestLinked prints what the client takes of a device's flash when nothing that
// the device does not call is there, with the libraries apart, and bounds it.
func TestLinked(t *testing.T) {
	t.Parallel()
	needs(t, "arm-none-eabi-gcc", "gcc-arm-none-eabi libnewlib-arm-none-eabi")
	table := &strings.Builder{}
	fmt.Fprintf(table, "%-14s %-24s %7s %7s %7s\n", "", "", "client", "libgcc", "string.h")
	for _, processor := range []string{"cortex-m0plus", "cortex-m4"} {
		for _, build := range builds {
			bytes := linked(t, processor, build.flags)
			fmt.Fprintf(table, "%-14s %-24s %7d %7d %7d\n", processor, build.what, bytes["mooring.c.o"], bytes["libgcc.a"], bytes["libc_nano.a"])
			require.Greater(t, bytes["mooring.c.o"], 4000, "the map was not understood: %v", bytes)
			require.Positive(t, bytes["libc_nano.a"], "the map was not understood: %v", bytes)
			require.LessOrEqual(t, bytes["mooring.c.o"], build.linked, "%s, %s: bytes of the client in a device", processor, build.what)
			require.LessOrEqual(t, bytes["libgcc.a"]+bytes["libc_nano.a"], mostLibraries, "%s, %s: bytes of libraries in a device", processor, build.what)
		}
	}
	t.Logf("bytes of flash in the least device\n%s", table)
}
