package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// catchSignals ends ctx at the first SIGINT or SIGTERM, upon which a run settles
// what is under way. A second one ends the process, as signals do.
func catchSignals(parent context.Context) (ctx context.Context, release func()) {
	ctx, stop := signal.NotifyContext(parent, os.Interrupt, syscall.SIGTERM)
	back := context.AfterFunc(ctx, stop) // signals do again what they always do
	return ctx, func() {
		back()
		stop()
	}
}
