package checks_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// strict is how all C here has to compile.
var strict = []string{"-std=c99", "-pedantic", "-Wall", "-Wextra", "-Werror", "-Wconversion"}

// patience bounds the run of a program that should take seconds.
const patience = 3 * time.Minute

// needs skips the test, or fails it on a build server, if a program is missing.
func needs(t *testing.T, program, debian string) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		if os.Getenv("CI") == "true" {
			require.FailNow(t, program+" is not installed", "apt-get install "+debian)
		}
		t.Skipf("%s is not installed: apt-get install %s", program, debian)
	}
}

// run gives what a program printed, and fails the test if it fails.
func run(t *testing.T, program string, arguments ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	output, err := exec.CommandContext(ctx, program, arguments...).CombinedOutput()
	require.NoError(t, err, "%s %v\n%s", program, arguments, output)
	return string(output)
}

// compile builds a program from files of the firmware folder.
func compile(t *testing.T, compiler string, flags []string, sources ...string) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "program")
	arguments := append([]string{"-o", program}, flags...)
	for _, source := range sources {
		arguments = append(arguments, filepath.Join("..", source))
	}
	run(t, compiler, append(arguments, libraries(compiler)...)...)
	return program
}

// libraries come behind the sources. Bare metal needs GCC's own arithmetic.
func libraries(compiler string) []string {
	if compiler == "arm-none-eabi-gcc" {
		return []string{"-lgcc"}
	}
	return nil
}

// TestStrictness compiles the client as strictly as compilers can, for 32 and 64
// bits, with its WebSocket layer and without.
func TestStrictness(t *testing.T) {
	t.Parallel()
	for _, compiler := range [][]string{
		{"cc", "gcc", "-O2"},
		{"cc", "gcc", "-O2", "-DMOORING_WEBSOCKET=0"},
		{"cc", "gcc", "-O2", "-DMOORING_MESSAGES=1"},
		{"cc", "gcc", "-O2", "-DMOORING_FLASH=0"},
		{"cc", "gcc", "-O2", "-DMOORING_BLOCKS=0"},
		{"cc", "gcc", "-O2", "-DMOORING_SHA1=mbedtls_sha1"},
		{"clang", "clang", "-O2"},
		{"clang", "clang", "-xc++", "-std=c++11", "-fsyntax-only", "-Wno-error", "../mooring.h"}, // C++ reads the header
		{"arm-none-eabi-gcc", "gcc-arm-none-eabi libnewlib-arm-none-eabi", "-Os", "-mthumb", "-mcpu=cortex-m0plus"},
	} {
		t.Run(compiler[0]+" "+compiler[2], func(t *testing.T) {
			t.Parallel()
			needs(t, compiler[0], compiler[1])
			if compiler[2] == "-xc++" {
				run(t, compiler[0], compiler[2:]...)
				return
			}
			arguments := slices.Concat(compiler[2:], strict, []string{"-c", "-o", filepath.Join(t.TempDir(), "mooring.o"), "../mooring.c"})
			run(t, compiler[0], arguments...)
		})
	}
}

// TestUnits runs tests/unit.c with the sanitizers for addresses and undefined
// behaviour: the client for bytes, for both kinds of transport, the least one, and one with
// another SHA-1.
func TestUnits(t *testing.T) {
	t.Parallel()
	needs(t, "cc", "gcc libc6-dev")
	for _, switches := range [][]string{nil, {"-DMOORING_MESSAGES=1"}, {"-DMOORING_FLASH=0", "-DMOORING_BLOCKS=0"}, {"-DMOORING_SHA1=platform_sha1"}} {
		t.Run(strings.Join(switches, " "), func(t *testing.T) {
			t.Parallel()
			flags := []string{"-std=c99", "-g", "-O1", "-Wall", "-Wextra", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"}
			program := compile(t, "cc", append(flags, switches...), "tests/unit.c")
			require.Contains(t, run(t, program), "all passed")
		})
	}
}

// TestESPIDF runs tests/esp_idf.c: the transport of ports/esp-idf over a component
// that does what the test says. tests/esp_idf.h stands in for each header of ESP-IDF.
func TestESPIDF(t *testing.T) {
	t.Parallel()
	needs(t, "cc", "gcc libc6-dev")
	headers := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(headers, "freertos"), 0o700))
	for _, name := range []string{
		"esp_crt_bundle.h", "esp_event.h", "esp_netif.h", "esp_netif_sntp.h", "esp_random.h", "esp_timer.h", "esp_websocket_client.h",
		"freertos/FreeRTOS.h", "freertos/message_buffer.h", "nvs_flash.h", "protocol_examples_common.h",
	} {
		require.NoError(t, os.WriteFile(filepath.Join(headers, name), []byte("#include \"esp_idf.h\"\n"), 0o600))
	}
	program := compile(t, "cc", []string{
		"-std=gnu17", "-g", "-O1", "-Wall", "-Wextra", "-Werror", "-Wno-unused-parameter", "-DMOORING_WEBSOCKET=0",
		"-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-I..", "-I../tests", "-I" + headers,
	}, "tests/esp_idf.c")
	require.Contains(t, run(t, program), "all passed")
}
