// Command go is a device in Go: it measures a value every so often and sends it to
// a Mooring server, over every loss of the connection.
//
//	go run ./examples/go ws://localhost:8080/v1/stream TOKEN
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math"
	"os"
	"os/signal"
	"syscall"
	"time"

	"mooring/client"
	"mooring/wire"
)

func main() {
	every := flag.Duration("every", time.Second, "how often to measure")
	flag.Parse()
	if flag.NArg() != 2 {
		fmt.Fprintln(os.Stderr, "usage: go run ./examples/go [-every 1s] ws://HOST:PORT/v1/stream TOKEN")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, flag.Arg(0), flag.Arg(1), *every); err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1) //nolint:gocritic // the signals' handler needs no cleaning up at the end
	}
}

// run measures until ctx ends.
func run(ctx context.Context, url, token string, every time.Duration) error {
	device, err := client.New(client.Config{
		URL: url, Token: token, Model: "example-go",
		WhenFull: client.DropOldest, // what is new matters more, after a day without a server
		OnAck: func(ack client.Ack) {
			fmt.Printf("committed: every row before %d\n", ack.Next)
		},
		OnReject: func(reject wire.Reject) {
			fmt.Printf("refused: row %d: %v\n", reject.Seq, reject.Code)
		},
	})
	if err != nil {
		return err
	}
	climate, err := device.Layout("climate", []wire.Channel{
		{Name: "temperature", Unit: "°C"},
		{Name: "humidity", Unit: "%"},
	})
	if err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- device.Run(ctx) }() // connects, sends, comes back after every loss

	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case now := <-ticker.C:
			turn := 2 * math.Pi * float64(now.Unix()%3600) / 3600
			_, err := device.Append(climate, now,
				wire.Value{Kind: wire.ValueNumber, Number: math.Round(210+40*math.Sin(turn)) / 10},
				wire.Value{Kind: wire.ValueNumber, Number: math.Round(50 + 10*math.Cos(turn))})
			if err != nil {
				fmt.Fprintln(os.Stderr, "not kept:", err)
			}
		case err := <-ended:
			return err
		}
	}
}
