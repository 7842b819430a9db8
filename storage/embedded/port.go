//go:build linux || darwin

package embedded

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"strconv"
)

// Ports are taken from below the ranges from which systems give ports to
// outgoing connections (Linux: from 32768, macOS: from 49152), so that none of
// those sits on Postgres' port when it has to be started again.
const (
	firstPort = 16_000
	lastPort  = 32_000
)

func portFree(ctx context.Context, port int) bool {
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp4", "127.0.0.1:"+strconv.Itoa(port))
	if err != nil {
		return false
	}
	return listener.Close() == nil
}

// choosePort returns the wanted port if it is free, else a random free one.
// Another process can still come first; Start then tries again.
func choosePort(ctx context.Context, wanted int) (int, error) {
	if wanted != 0 && portFree(ctx, wanted) {
		return wanted, nil
	}
	for range 100 {
		port := firstPort + rand.IntN(lastPort-firstPort) //nolint:gosec // no secret
		if portFree(ctx, port) {
			return port, nil
		}
		if ctx.Err() != nil {
			return 0, ctx.Err()
		}
	}
	return 0, errors.New("no free TCP port on 127.0.0.1")
}
