// Command fleet simulates a fleet of devices, judges what became of its rows,
// and replays recorded data.
package main

import (
	"context"
	"os"
)

func main() {
	os.Exit(run(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
}
