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

// A device measures two things and waits until the server has committed them.
func Example() {
	server := httptest.NewServer(http.HandlerFunc(acknowledgeAll)) // yours: mooring serve
	defer server.Close()

	device, err := client.New(client.Config{
		URL:   "ws" + strings.TrimPrefix(server.URL, "http") + "/v1/stream",
		Token: "the token that mooring device add showed",
		Model: "boiler",
		OnReject: func(reject wire.Reject) {
			fmt.Println("refused:", reject.Seq, reject.Code)
		},
	})
	if err != nil {
		panic(err)
	}
	boiler, err := device.Layout("boiler", []wire.Channel{
		{Name: "temperature", Unit: "°C"},
		{Name: "burning", Kind: wire.KindBool},
	})
	if err != nil {
		panic(err)
	}

	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- device.Run(ctx) }()

	for _, temperature := range []float64{61.5, 61.9, 62.4} {
		_, err := device.Append(boiler, time.Now(),
			wire.Value{Kind: wire.ValueNumber, Number: temperature},
			wire.Value{Kind: wire.ValueBool, Number: 1})
		if err != nil {
			panic(err)
		}
	}
	if err := device.WaitAcked(ctx); err != nil {
		panic(err)
	}
	fmt.Println("committed:", device.Stats().RowsSettled)

	cancel()
	fmt.Println("ended:", <-done)
	// Output:
	// committed: 3
	// ended: context canceled
}

// acknowledgeAll is a server that commits nothing and says it did.
func acknowledgeAll(w http.ResponseWriter, r *http.Request) {
	socket, err := gws.NewUpgrader(acknowledger{}, &gws.ServerOption{
		SubProtocols: []string{wire.Subprotocol},
	}).Upgrade(w, r)
	if err == nil {
		socket.ReadLoop()
	}
}

type acknowledger struct{ gws.BuiltinEventHandler }

func (acknowledger) OnMessage(socket *gws.Conn, message *gws.Message) {
	defer message.Close()
	if head, err := wire.NewDecoder(wire.Limits{}).DataHead(message.Bytes()); err == nil {
		ack := wire.Ack{Next: head.Seq + uint64(head.N), Window: 16}
		_ = socket.WriteMessage(gws.OpcodeBinary, wire.NewEncoder().Ack(&ack))
	}
}
