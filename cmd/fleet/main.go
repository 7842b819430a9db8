// Command fleet simulates a fleet of devices, judges what became of its rows,
// replays recorded data, and measures the server.
package main

import (
	"context"
	"os"

	"mooring/cmd/internal/bench"
)

func main() {
	if code, is := bench.Child(); is {
		os.Exit(code)
	}
	os.Exit(run(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
}
