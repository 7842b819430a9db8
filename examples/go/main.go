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
	"net/http"
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
		OnEvent: tell,
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
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- device.Run(running) }() // connects, sends, comes back after every loss

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
		case <-ctx.Done():
			patience, cancel := context.WithTimeout(running, 2*time.Second)
			_ = device.WaitAcked(patience) // a moment for the last acks
			cancel()
			stop()
			err := <-ended
			stats := device.Stats()
			fmt.Printf("measured %d, settled %d, refused %d, given up %d\n",
				stats.RowsAppended, stats.RowsSettled, stats.Refusals, stats.RowsDropped)
			return err
		}
	}
}

// tell says what happens to the connection.
func tell(event client.Event) {
	switch event.Kind {
	case client.EventWelcome:
		fmt.Printf("connected: session %d\n", event.Welcome.Session)
	case client.EventDisconnected:
		fmt.Printf("away for %.1f s: %v\n", event.Wait.Seconds(), event.Err)
		if event.Status == http.StatusUnauthorized {
			fmt.Println("the server does not know the token: is it a device's, and of this server?")
		}
	case client.EventConnected, client.EventGoAway, client.EventLayoutRejected, client.EventDropped:
	}
}
