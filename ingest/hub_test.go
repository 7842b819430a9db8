package ingest

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mooring/wire"
)

func TestTakeoverByANewerConnection(t *testing.T) {
	t.Parallel()
	store := newFakeStore()
	store.gate = make(chan struct{})
	sv := serve(t, quick(), store)
	old := sv.join(t, 1)
	old.data(0, 5)
	old.data(5, 5)
	shard := old.shardOf(sv, 1)
	eventually(t, func() bool {
		shard.mu.Lock()
		defer shard.mu.Unlock()
		return shard.counts.frames == 2
	}, "the old one's frames are in")
	fresh := sv.join(t, 1)
	old.closesWith(wire.CloseReplaced, true)
	fresh.data(5, 6) // sends some of it again
	close(store.gate)
	fresh.ackUpTo(11)
	require.Len(t, store.stored(1), 11, "what the old one had sent is committed")
	eventually(t, func() bool { return len(sv.registry.endings()) == 1 }, "the old one's end is recorded")
	end := sv.registry.endings()[0]
	require.Equal(t, wire.CloseReplaced, end.Code)
	require.Equal(t, uint64(10), end.Counts.RowsCommitted, "with its last rows")
	require.Equal(t, uint64(10), end.Next)
	eventually(t, func() bool { return sv.gateway.Stats().RowsDuplicate == 5 }, "what came twice is counted")
}

// However connections of one device race, one stays: the one with the highest
// number, and every session ends once.
func TestTakeoverRace(t *testing.T) {
	t.Parallel()
	sv := serve(t, quick(), newFakeStore())
	rounds := 60
	if testing.Short() {
		rounds = 5
	}
	for round := range rounds {
		id := 100 + round
		const racers = 6
		var racing sync.WaitGroup
		devices, sessions := make([]*device, racers), make([]int64, racers)
		for n := range racers {
			conn, in, response := sv.handshake(t, "GET", wire.StreamPath, map[string][]string{
				"Authorization": {fmt.Sprintf("Bearer token-%d", id)},
			})
			require.Equal(t, 101, response.StatusCode)
			d := newDevice(t, conn, in, nil)
			devices[n] = d
			racing.Go(func() {
				if _, err := d.conn.Write(masked(0x82, d.encoder.Hello(wire.Hello{}))); err != nil {
					return
				}
				opcode, payload, err := d.message()
				for err == nil && opcode == opPing { // the first one comes at random
					opcode, payload, err = d.message()
				}
				welcome, _ := d.decoder.Welcome(payload)
				sessions[n] = welcome.Session
			})
		}
		racing.Wait()
		newest := slices.Index(sessions, slices.Max(sessions))
		for n, d := range devices {
			require.NotZero(t, sessions[n], "everybody is welcomed first")
			if n != newest {
				d.closesWith(wire.CloseReplaced, true)
			}
		}
		winner := devices[newest]
		winner.send(winner.encoder.Ping(wire.Ping{Echo: 5}))
		pong, err := winner.decoder.Pong(winner.next())
		require.NoError(t, err, "the newest stays")
		require.Equal(t, uint64(5), pong.Echo)
		winner.conn.Close()
		eventually(t, func() bool { return len(sv.registry.endings()) == (round+1)*racers }, "every session ends once")
	}
	seen := map[int64]bool{}
	for _, end := range sv.registry.endings() {
		require.False(t, seen[end.Session])
		seen[end.Session] = true
	}
	eventually(t, func() bool { return sv.gateway.Stats().Connections == 0 }, "all have gone")
	sv.gateway.hub.mu.Lock()
	defer sv.gateway.hub.mu.Unlock()
	require.Empty(t, sv.gateway.hub.devices)
	require.Empty(t, sv.gateway.hub.slots)
}

func TestDropDevice(t *testing.T) {
	t.Parallel()
	sv := serve(t, quick(), newFakeStore())
	d := sv.join(t, 1)
	mute := sv.connect(t, 2) // not opened yet
	eventually(t, func() bool { return len(sv.gateway.hub.snapshot()) == 2 }, "both are there")
	require.Zero(t, sv.gateway.DropDevice(1, 999, wire.CloseUnauthenticated), "another token")
	d.data(0, 1)
	d.ackUpTo(1)
	require.Equal(t, 1, sv.gateway.DropDevice(1, 1001, wire.CloseUnauthenticated))
	d.closesWith(wire.CloseUnauthenticated, true)
	require.Equal(t, 1, sv.gateway.DropDevice(2, 0, wire.CloseDisabled))
	mute.closesWith(wire.CloseDisabled, true)
}

// A certificate's revocation is that certificate's alone.
func TestDropCertificate(t *testing.T) {
	t.Parallel()
	sv := serve(t, quick(), newFakeStore())
	sv.registry.mu.Lock()
	for _, token := range []string{"token-1", "token-2"} {
		device := sv.registry.devices[token]
		device.TokenID, device.Serial = 0, "a"+token[6:]
		sv.registry.devices[token] = device
	}
	sv.registry.mu.Unlock()
	d := sv.join(t, 1)
	require.Zero(t, sv.gateway.DropCertificate(1, "a2", wire.CloseUnauthenticated), "another certificate")
	require.Zero(t, sv.gateway.DropCertificate(2, "a1", wire.CloseUnauthenticated), "another device")
	d.data(0, 1)
	d.ackUpTo(1)
	require.Equal(t, 1, sv.gateway.DropCertificate(1, "a1", wire.CloseUnauthenticated))
	d.closesWith(wire.CloseUnauthenticated, true)
}

// A credential that was checked before its revocation and arrives after it does
// not slip through.
func TestDropDeviceCatchesHandshakesUnderWay(t *testing.T) {
	t.Parallel()
	h := newHub(newClock())
	g := &Gateway{metrics: newMetrics(), cfg: Config{}.withDefaults()}
	late := func(id int32, token int64, begun int64) *session {
		s := &session{gateway: g, device: Device{ID: id, TokenID: token}, begun: begun, link: newLink(fakeConn{}, nil, h.clock), flushing: true}
		h.add(s)
		return s
	}
	before := h.clock.now()
	h.drop(7, 70, wire.CloseUnauthenticated)
	time.Sleep(time.Millisecond)
	require.True(t, late(7, 70, before).closing)
	require.False(t, late(7, 71, before).closing, "another token")
	require.False(t, late(8, 70, before).closing, "another device")
	require.False(t, late(7, 70, h.clock.now()).closing, "checked after the revocation")
	h.forget(h.clock.now())
	require.Empty(t, h.revoked)
}

// The registry checks the credential again when it opens the session.
func TestOpenFindsTheCredentialRevoked(t *testing.T) {
	t.Parallel()
	for want, err := range map[wire.CloseCode]error{
		wire.CloseUnauthenticated: fmt.Errorf("open: %w", ErrUnauthenticated),
		wire.CloseDisabled:        fmt.Errorf("open: %w", ErrDisabled),
		wire.CloseInternal:        errAway,
	} {
		sv := serve(t, quick(), newFakeStore())
		sv.registry.openErr = err
		d := sv.connect(t, 1)
		d.send(d.encoder.Hello(wire.Hello{}))
		d.closesWith(want, true)
		require.Empty(t, sv.registry.endings())
	}
}

func TestCommandsAndResults(t *testing.T) {
	t.Parallel()
	results := make(chan wire.Result, 1)
	cfg := quick()
	cfg.OnResult = func(device Device, result wire.Result) {
		if device.Name == "device-4" {
			result.Detail = append([]byte(nil), result.Detail...)
			results <- result
		}
	}
	sv := serve(t, cfg, newFakeStore())
	require.ErrorIs(t, sv.gateway.SendCommand(4, wire.Command{ID: 9, Name: "reboot"}), ErrNotConnected)
	d := sv.join(t, 4)
	require.NoError(t, sv.gateway.SendCommand(4, wire.Command{ID: 9, Name: "reboot", TTL: 5}))
	command, err := d.decoder.Command(d.next())
	require.NoError(t, err)
	require.Equal(t, "reboot", command.Name)
	d.send(d.encoder.Result(wire.Result{ID: 9, Status: wire.ResultDone, Detail: []byte{0xC3}}))
	require.Equal(t, wire.Result{ID: 9, Status: wire.ResultDone, Detail: []byte{0xC3}}, <-results)
}
