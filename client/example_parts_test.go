package client_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/lxzan/gws"

	"mooring/client"
	"mooring/wire"
)

// A device without a server fills its buffer. This one gives up its oldest rows
// then: their numbers are not used again, so that the server sees a gap.
func ExampleConfig_dropOldest() {
	device, err := client.New(client.Config{
		URL: "ws://localhost:8080/v1/stream", Token: "…",
		BufferRows: 3, WhenFull: client.DropOldest,
	})
	if err != nil {
		panic(err)
	}
	level, err := device.Layout("tank", []wire.Channel{{Name: "level", Unit: "m"}})
	if err != nil {
		panic(err)
	}
	for i := range 5 {
		_, err := device.Append(level, time.Now(), wire.Value{Kind: wire.ValueNumber, Number: float64(i)})
		if err != nil {
			panic(err)
		}
	}
	stats := device.Stats()
	fmt.Printf("rows %d to %d wait, %d were given up\n", stats.Unacked, stats.Next-1, stats.RowsDropped)
	// Output: rows 2 to 4 wait, 2 were given up
}

// What can't be right is refused at once, when the layout is declared. A layout
// whose frame is larger than the server takes is refused with a *LayoutSizeError,
// here by Layout once the server has said its limit, and by Append otherwise.
func ExampleClient_Layout() {
	device, err := client.New(client.Config{URL: "ws://localhost:8080/v1/stream", Token: "…"})
	if err != nil {
		panic(err)
	}
	boiler, err := device.Layout("boiler", []wire.Channel{
		{Name: "temperature", Unit: "°C", Exp10: -1}, // integers sent are tenths
		{Name: "burning", Kind: wire.KindBool},
		{Name: "state", Kind: wire.KindText},
	})
	if err != nil {
		panic(err)
	}
	seq, err := device.Append(boiler, time.Now(),
		wire.Value{Kind: wire.ValueInt, Int: 615}, // 61.5 °C
		wire.Value{Kind: wire.ValueBool, Number: 1},
		wire.Value{}) // no reading
	fmt.Println("row", seq, err)

	_, err = device.Layout("wide", make([]wire.Channel, 257))
	fmt.Println(err)
	_, err = device.Append(boiler, time.Now(), wire.Value{})
	fmt.Println(err)
	// Output:
	// row 0 <nil>
	// client: a layout has 1 to 256 channels
	// client: not one value for each channel
}

// A device carries out a command; what it does not know it answers with
// ResultUnknown.
func ExampleConfig_onCommand() {
	results := make(chan wire.Result, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		commander{results: results}.serve(w, r) // yours: mooring serve, and mooring command send
	}))
	defer server.Close()

	valve := "closed"
	device, err := client.New(client.Config{
		URL:   "ws" + strings.TrimPrefix(server.URL, "http") + "/v1/stream",
		Token: "the token that mooring device add showed",
		OnCommand: func(_ context.Context, command wire.Command) wire.Result {
			switch command.Name {
			case "valve.open": // ctx ends with the command's time to live
				valve = "open"
				return wire.Result{Status: wire.ResultDone}
			default:
				return wire.Result{Status: wire.ResultUnknown}
			}
		},
	})
	if err != nil {
		panic(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- device.Run(ctx) }()
	result := <-results
	cancel()
	fmt.Println("ended:", <-done)
	fmt.Println("the valve is", valve, "and the server knows it:", result.ID == 12 && result.Status == wire.ResultDone)
	// Output:
	// ended: context canceled
	// the valve is open and the server knows it: true
}

// commander is a server that sends one command and passes its result on.
type commander struct {
	gws.BuiltinEventHandler

	results chan wire.Result
}

func (c commander) serve(w http.ResponseWriter, r *http.Request) {
	socket, err := gws.NewUpgrader(c, &gws.ServerOption{SubProtocols: []string{wire.Subprotocol}}).Upgrade(w, r)
	if err == nil {
		socket.ReadLoop()
	}
}

func (c commander) OnMessage(socket *gws.Conn, message *gws.Message) {
	defer message.Close()
	decoder, encoder := wire.NewDecoder(wire.Limits{}), wire.NewEncoder()
	if _, err := decoder.Hello(message.Bytes()); err == nil {
		welcome := wire.Welcome{Time: time.Now().UnixMilli(), Heartbeat: 30, MaxFrame: 16 << 10, Window: 16, Spread: 5}
		_ = socket.WriteMessage(gws.OpcodeBinary, encoder.Welcome(welcome))
		_ = socket.WriteMessage(gws.OpcodeBinary, encoder.Command(wire.Command{ID: 12, Name: "valve.open", TTL: 60}))
	}
	if result, err := decoder.Result(message.Bytes()); err == nil {
		c.results <- result
	}
}

// After three connections in a row that came to nothing, a device stays away for up
// to eight times the spread that the server gave, at random.
func ExampleRetry_Wait() {
	retry := client.Retry{Class: wire.ClassRetry, Failures: 3, Spread: 5 * time.Second}
	wait := retry.Wait()
	fmt.Println(wait >= 0 && wait < 40*time.Second)

	retry = client.Retry{Class: wire.ClassTerminal, Failures: 1, Spread: 5 * time.Second}
	fmt.Println(retry.Wait() >= 15*time.Minute) // wrong token: a person has to do something
	// Output:
	// true
	// true
}
