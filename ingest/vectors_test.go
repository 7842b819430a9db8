package ingest

import (
	hexdigits "encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mooring/wire"
)

// testVector is one frame of wire/testdata, whose files explain their form.
type testVector struct {
	file, name string
	frame      []byte
	channels   []wire.Channel // of the layout that it names
	timed      bool           // tells the clock or the range of times, which a server has its own of
	want       string         // what a decoder makes of it
}

// readTestVectors reads all files of vectors.
func readTestVectors(t *testing.T) []*testVector {
	t.Helper()
	files, err := filepath.Glob("../wire/testdata/*.txt")
	require.NoError(t, err)
	require.Contains(t, files, "../wire/testdata/bad.txt")
	var all []*testVector
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		_, vectors, _ := strings.Cut("\n"+string(text), "\n== ")
		for part := range strings.SplitSeq(vectors, "\n== ") {
			name, lines, _ := strings.Cut(part, "\n")
			v := &testVector{file: filepath.Base(file), name: name}
			for line := range strings.SplitSeq(lines, "\n") {
				require.NoError(t, v.parse(line), "%s: %s: %s", file, name, line)
			}
			require.NotEmpty(t, v.want, name)
			all = append(all, v)
		}
	}
	return all
}

func (v *testVector) parse(line string) error {
	switch {
	case strings.HasPrefix(line, "=> "):
		v.want = line[3:]
	case strings.HasPrefix(line, "= "), line == "@ loose":
	case strings.HasPrefix(line, "@ layout "):
		var channels [][]any
		if err := json.Unmarshal([]byte(line[len("@ layout "):]), &channels); err != nil {
			return err
		}
		for _, fields := range channels {
			var channel wire.Channel
			for i, field := range fields {
				switch value := field.(type) {
				case string:
					if i == 0 {
						channel.Name = value
					} else {
						channel.Unit = value
					}
				case float64:
					if i == 2 {
						channel.Kind = wire.Kind(value)
					} else {
						channel.Exp10 = int8(value)
					}
				}
			}
			v.channels = append(v.channels, channel)
		}
	case strings.HasPrefix(line, "@ "):
		v.timed = true
	default:
		digits, _, _ := strings.Cut(line, ";")
		part, err := hexBytes(digits)
		v.frame = append(v.frame, part...)
		return err
	}
	return nil
}

func hexBytes(digits string) ([]byte, error) {
	return hexdigits.DecodeString(strings.ReplaceAll(digits, " ", ""))
}

// send connects device number n, declares what the frame refers to, and sends it.
func (v *testVector) send(t *testing.T, sv *server, n int) *device {
	t.Helper()
	d := sv.connect(t, n)
	if kind, err := wire.FrameTypeOf(v.frame); err != nil || kind != wire.FrameHello {
		d.send(d.encoder.Hello(wire.Hello{}))
		d.welcome()
	}
	if len(v.channels) > 0 {
		if head, err := d.decoder.DataHead(v.frame); err == nil && len(head.Names) == 0 {
			d.send(d.encoder.Layout(&wire.Layout{Number: head.Layout, Channels: v.channels}))
		}
	}
	d.send(v.frame)
	return d
}

// check sees that the server answers as the vector says.
func (v *testVector) check(t *testing.T, sv *server, n int) {
	t.Helper()
	d := v.send(t, sv, n)
	kind, err := wire.FrameTypeOf(v.frame)
	if err == nil && kind.FromServer() { // PROTOCOL §3.6, however well or badly it is made
		d.closesWith(wire.CloseUnknownType, true)
		return
	}
	var first, second uint64
	var third, code string
	switch words := strings.Fields(v.want); words[0] {
	case "close":
		var code wire.CloseCode
		_, err := fmt.Sscan(words[1], &code)
		require.NoError(t, err)
		d.closesWith(code, true)
		return
	case "rows":
		_, err := fmt.Sscan(v.want[len("rows"):], &first, &second, &code)
		require.NoError(t, err)
		ack := d.ackUpTo(first + second)
		require.Equal(t, second, ack.Rejected)
		require.Len(t, ack.Rejects, 1)
		require.Equal(t, wire.WholeRow, ack.Rejects[0].Channel)
		require.Equal(t, first, ack.Rejects[0].Seq)
		require.Equal(t, second, ack.Rejects[0].N)
		require.Equal(t, code, ack.Rejects[0].Code.String())
		require.Empty(t, sv.store.stored(int32(n)), "nothing of it is stored")
	case "layout":
		_, err := fmt.Sscan(v.want[len("layout"):], &first, &third, &code)
		require.NoError(t, err)
		notice := d.notice()
		require.Equal(t, wire.NoticeLayoutRejected, notice.Kind)
		require.Equal(t, uint32(first), notice.Layout)
		channel := strconv.Itoa(notice.Channel)
		if notice.Channel == wire.WholeRow {
			channel = "nil"
		}
		require.Equal(t, third, channel)
		require.Equal(t, code, notice.Reason.String())
	case "ignored":
	default:
		if v.checkTaken(t, d, kind) > 1<<52 {
			d.conn.Close()
			return // the last row there can be
		}
	}
	// The connection stays, and what comes next is stored.
	before := len(sv.store.stored(int32(n)))
	const number, seq = 60_000, 1 << 52
	d.send(d.encoder.Layout(&wire.Layout{Number: number, Channels: []wire.Channel{{Name: "v"}}}))
	good, err := d.encoder.Data(&wire.Data{Seq: seq, Layout: number, Rows: []wire.Row{{
		Time: time.Now().Truncate(time.Millisecond).UnixMicro(), Values: []wire.Value{{Kind: wire.ValueNumber, Number: 1}},
	}}})
	require.NoError(t, err)
	d.send(good)
	require.Zero(t, d.ackUpTo(seq+1).Rejected)
	require.Len(t, sv.store.stored(int32(n)), before+1)
	d.conn.Close()
}

// checkTaken sees what the server makes of a frame that is right, though values
// in it may be refused. It gives the sequence number behind the frame's rows.
func (v *testVector) checkTaken(t *testing.T, d *device, kind wire.FrameType) uint64 {
	t.Helper()
	var made struct {
		Seq, N, Rejected uint64
		Echo             uint64
	}
	require.NoError(t, json.Unmarshal([]byte(v.want), &made))
	switch kind {
	case wire.FrameHello:
		d.welcome()
	case wire.FrameData:
		require.Equal(t, made.Rejected, d.ackUpTo(made.Seq+made.N).Rejected)
	case wire.FramePing:
		pong, err := d.decoder.Pong(d.next())
		require.NoError(t, err)
		require.Equal(t, made.Echo, pong.Echo)
	default: // LAYOUT and RESULT have no answer
	}
	return made.Seq + made.N
}

// Every vector, the bad ones above all, goes over a real socket to one server,
// which answers as the vector says, while a healthy device loses nothing.
func TestVectorsOverASocket(t *testing.T) {
	cfg := quick()
	cfg.Oldest = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC) // the vectors' times stand still
	sv := serve(t, cfg, newFakeStore())
	healthy := sv.bystander(t, 1)
	before := sv.footprint()
	files := map[string]int{}
	t.Run("vectors", func(t *testing.T) {
		for i, v := range readTestVectors(t) {
			if v.timed {
				continue // TestBadInputGetsTheStatedAnswer has times out of range
			}
			files[v.file]++
			t.Run(v.file+"/"+v.name, func(t *testing.T) {
				t.Parallel()
				v.check(t, sv, 10+i)
			})
		}
	})
	require.Greater(t, files["bad.txt"], 100, "all bad vectors")
	healthy.goesOn(t)
	sv.settlesTo(t, before)
	require.Zero(t, counted(t, sv.gateway.metrics.panics))
	healthy.lostNothing(t)
}
