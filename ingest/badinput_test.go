package ingest

import (
	"bytes"
	"encoding/binary"
	"math"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"mooring/wire"
)

// answer is what the table of PROTOCOL.md says.
type answer struct {
	close   wire.CloseCode // the connection is closed with it, announced
	rows    wire.Code      // the frame is refused whole
	row     wire.Code      // single rows are refused whole
	value   wire.Code      // single values are refused
	notice  *wire.Notice
	stored  int  // rows of the frame that are stored
	ignored bool // nothing happens
}

// The connections of the table declare these: 1 has a number, 2 a bool, 3 a
// text, 4 two numbers.
var tableLayouts = []wire.Layout{
	{Number: 1, Name: "n", Channels: []wire.Channel{{Name: "v"}}},
	{Number: 2, Name: "b", Channels: []wire.Channel{{Name: "v", Kind: wire.KindBool}}},
	{Number: 3, Name: "t", Channels: []wire.Channel{{Name: "v", Kind: wire.KindText}}},
	{Number: 4, Name: "two", Channels: []wire.Channel{{Name: "v"}, {Name: "w"}}},
}

// tableSeq is the first row of every DATA frame under test.
const tableSeq = 1000

type badInput struct {
	id     string // the row of PROTOCOL.md
	frames [][]byte
	answer answer
}

func frames(made ...any) [][]byte {
	var all [][]byte
	for _, v := range made {
		all = append(all, pack(v))
	}
	return all
}

func badInputs() []badInput {
	now := int(time.Now().UnixMilli())
	head := func(rest ...any) list { return append(list{3, tableSeq}, rest...) }
	// one row of layout 1 to 3, at now
	one := func(layout int, value any) [][]byte { return frames(head(1, now, layout, 0, list{0, value})) }
	malformed, closed := answer{rows: wire.CodeMalformed}, answer{close: wire.CloseBadFrame}
	unit := func(rest ...any) list { return append(list{2, 9, "name"}, rest...) }
	rejected := func(channel int, code wire.Code) answer {
		return answer{notice: &wire.Notice{Kind: wire.NoticeLayoutRejected, Layout: 9, Channel: channel, Reason: code}}
	}
	packed := func(kind byte, data []byte) [][]byte { return frames(head(1, now, 1, 1000, ext{kind, data})) }
	value := func(code wire.Code) answer { return answer{value: code, stored: 1} }
	inf := binary.LittleEndian.AppendUint32(nil, math.Float32bits(float32(math.Inf(1))))
	nan := binary.LittleEndian.AppendUint32(nil, math.Float32bits(float32(math.NaN())))
	window := frames()
	for i := range 17 {
		window = append(window, pack(list{3, tableSeq + i, 1, now, 1, 0, list{0, 1}}))
	}
	layouts := frames()
	for i := range 13 { // four are there
		layouts = append(layouts, pack(list{2, 100 + i, "x", list{list{"v"}}}))
	}
	array32 := hex(append([]byte{0xDD, 0, 0, 0, 1}, 1))

	return []badInput{
		{"M6", [][]byte{{}}, closed},
		{"M7", [][]byte{{0x81, 1, 1}}, closed},
		{"M7", [][]byte{{5}}, closed},
		{"M7", [][]byte{{0xC1}}, closed},
		{"M8", [][]byte{{0x90}}, closed},
		{"M9", [][]byte{{0xDD, 0, 0, 0, 2, 5, 1}}, closed},
		{"M10", frames(list{"3"}), closed},
		{"M10", frames(list{-1}), closed},
		{"M10", frames(list{128}), closed},
		{"M11", frames(list{0}), answer{close: wire.CloseUnknownType}},
		{"M11", frames(list{6, 1}), answer{close: wire.CloseUnknownType}},
		{"M11", frames(list{31}), answer{close: wire.CloseUnknownType}},
		{"M12", frames(list{16}), answer{close: wire.CloseUnknownType}},
		{"M12", frames(list{17, 5, 5}), answer{close: wire.CloseUnknownType}},
		{"M12", frames(list{20}), answer{close: wire.CloseUnknownType}},
		{"M13", frames(list{32, hex{0xC1, 0xFF}}), answer{ignored: true}},
		{"M13", frames(list{127}), answer{ignored: true}},
		{"M14", [][]byte{{0x92, 5}}, closed},
		{"M14", [][]byte{{0x92, 5, 1, 1}}, closed},
		{"M15", [][]byte{pack(head(1, now, 1, 0, list{0, 1}))[:20]}, malformed},
		{"M16", [][]byte{pack(unit(list{list{"v"}}))[:12]}, rejected(wire.WholeRow, wire.CodeMalformed)},
		{"M16", [][]byte{append(pack(unit(list{list{"v"}})), 1)}, rejected(wire.WholeRow, wire.CodeMalformed)},
		{"M17", frames(head(1, now, 1, 0, list{0, 1}, "more", nest(7))), answer{stored: 1}},
		{"M18", frames(list{5, 1, nest(8)}), closed},
		{"M18", frames(list{5, 1, array32}), closed},
		{"M18", frames(head(1, now, 1, 0, list{0, 1}, nest(8))), malformed},
		{"M18", frames(unit(list{list{"v"}}, hex{0xC1})), rejected(wire.WholeRow, wire.CodeMalformed)},
		{"M19", frames(list{1}), closed},
		{"M20", frames(list{5, "x"}), closed},
		{"M20", frames(list{5, -1}), closed},
		{"M20", frames(list{4, "x", 0}), closed},
		{"M20", frames(list{4, 1}), closed},
		{"M23", frames(list{4, 12345, 0}), answer{ignored: true}},

		{"L1", frames(list{2}), closed},
		{"L1", frames(list{2, "9", "name", list{list{"v"}}}), closed},
		{"L1", frames(list{2, -1, "name", list{list{"v"}}}), closed},
		{"L1", frames(list{2, 65536, "name", list{list{"v"}}}), closed},
		{"L2", frames(list{2, 9, "a b", list{list{"v"}}}), rejected(wire.WholeRow, wire.CodeName)},
		{"L2", frames(list{2, 9, strings.Repeat("n", 65), list{list{"v"}}}), rejected(wire.WholeRow, wire.CodeName)},
		{"L3", frames(list{2, 9, 5, list{list{"v"}}}), rejected(wire.WholeRow, wire.CodeType)},
		{"L4", frames(unit()), rejected(wire.WholeRow, wire.CodeMalformed)},
		{"L5", frames(unit("v")), rejected(wire.WholeRow, wire.CodeType)},
		{"L6", frames(unit(list{})), rejected(wire.WholeRow, wire.CodeRange)},
		{"L6", frames(unit(repeat(list{"v"}, 257))), rejected(wire.WholeRow, wire.CodeRange)},
		{"L7", frames(unit(list{list{"v"}, "w"})), rejected(1, wire.CodeType)},
		{"L8", frames(unit(list{list{"v"}, list{nil}})), rejected(1, wire.CodeName)},
		{"L8", frames(unit(list{list{""}})), rejected(0, wire.CodeName)},
		{"L8", frames(unit(list{list{"ü"}})), rejected(0, wire.CodeName)},
		{"L8", frames(unit(list{list{"v"}, list{"v"}})), rejected(1, wire.CodeName)},
		{"L9", frames(unit(list{list{"v", strings.Repeat("u", 65)}})), rejected(0, wire.CodeString)},
		{"L9", frames(unit(list{list{"v", "\xFF"}})), rejected(0, wire.CodeString)},
		{"L9", frames(unit(list{list{"v", "\x00"}})), rejected(0, wire.CodeString)},
		{"L10", frames(unit(list{list{"v", nil, 3}})), rejected(0, wire.CodeUnsupported)},
		{"L10", frames(unit(list{list{"v", nil, -1}})), rejected(0, wire.CodeUnsupported)},
		{"L11", frames(unit(list{list{"v", nil, 0, 10}})), rejected(0, wire.CodeRange)},
		{"L12", frames(unit(list{list{5}})), rejected(0, wire.CodeType)},
		{"L12", frames(unit(list{list{"v", nil, "x"}})), rejected(0, wire.CodeType)},
		{"L13", layouts, answer{notice: &wire.Notice{
			Kind: wire.NoticeLayoutRejected, Layout: 112, Channel: wire.WholeRow, Reason: wire.CodeQuota,
		}}},
		{"L14", frames(list{2, 1, "n", list{list{"v"}, list{"w"}}}, head(1, now, 1, 0, list{0, 1, 2})), answer{stored: 1}},

		{"D1", frames(list{3}), closed},
		{"D1", frames(list{3, "x", 1}), closed},
		{"D1", frames(list{3, -5, 1, now, 1, 0, list{0, 1}}), closed},
		{"D1", frames(list{3, tableSeq}), closed},
		{"D2", frames(head(0, now, 1, 0, list{})), closed},
		{"D2", frames(head(65536, now, 1, 0, list{})), closed},
		{"D3", frames(head(4097, now, 1, 1, repeat(1, 4097))), malformed},
		{"D4", frames(list{3, 1<<53 - 1, 2, now, 1, 0, list{0, 1, 0, 1}}), closed},
		{"D5", frames(head(2, now, 1, 0, list{0, 1, 0, 1}), list{3, tableSeq + 1, 1, now, 1, 0, list{0, 1}}), answer{close: wire.CloseBadSeq}},
		{"D6", window, answer{close: wire.CloseWindow}},
		{"D7", frames(head(2, now, 77, 0, list{0, 1, 0, 1})), answer{
			rows: wire.CodeUnknownLayout, notice: &wire.Notice{Kind: wire.NoticeNeedLayout, Layout: 77},
		}},
		{"D8", frames(head(1, now)), malformed},
		{"D8", frames(head(1, now, -1, 0, list{0, 1})), malformed},
		{"D8", frames(head(1, now, 65536, 0, list{0, 1})), malformed},
		{"D8", frames(head(1, now, "n", 0, list{0, 1})), malformed},
		{"D9", frames(head(1, now, list{}, 0, list{0})), answer{rows: wire.CodeRange}},
		{"D10", frames(head(1, now, list{"a b"}, 0, list{0, 1})), answer{rows: wire.CodeName}},
		{"D10", frames(head(1, now, list{"a", "a"}, 0, list{0, 1, 1})), answer{rows: wire.CodeName}},
		{"D11", frames(head(1, now, list{5}, 0, list{0, 1})), answer{rows: wire.CodeType}},
		{"D12", append(layouts[:12:12], pack(head(1, now, list{"v"}, 0, list{0, 1}))), answer{rows: wire.CodeQuota}},
		{"D13", frames(head(1, "now", 1, 0, list{0, 1})), malformed},
		{"D13", frames(head(1, uint64(1<<63), 1, 0, list{0, 1})), malformed},
		{"D14", frames(head(1, now, 1, "x", list{0, 1})), malformed},
		{"D14", frames(head(1, now, 1, -1, list{1})), malformed},
		{"D14", frames(head(1, now, 1, 86_400_000_001, list{1})), malformed},
		{"D15", frames(head(1, now, 1, 0)), malformed},
		{"D15", frames(head(1, now, 1, 0, 5)), malformed},
		{"D16", frames(head(2, now, 1, 0, list{0, 1})), malformed},
		{"D16", frames(head(1, now, 1, 0, list{0, 1, 0, 1})), malformed},
		{"D17", [][]byte{bytes.TrimSuffix(pack(head(1, now, 1, 0, list{0, 1})), []byte{1})}, malformed},
		{"D18", [][]byte{append(pack(head(1, now, 1, 0, list{0, 1})), 0xC0)}, malformed},
		{"D19", frames(head(1, now, 1, 0, hex{0xDD, 0, 0, 0, 2, 0, 1})), malformed},
		{"D20", frames(head(1, now, 1, 0, list{0, nest(7)})), malformed},
		{"D21", frames(head(1, now, 1, 0, list{0, hex{0xC1}})), malformed},
		{"D22", frames(head(1, now, 1, 0, list{nil, 1})), malformed},
		{"D22", frames(head(1, now, 1, 0, list{1.5, 1})), malformed},
		{"D22", frames(head(1, now, 1, 0, list{math.MaxInt64, 1})), malformed},
		{"D23", frames(head(1, now, 1, 0, ext{2, []byte{1, 0}})), malformed},
		{"D23", packed(9, []byte{1, 0}), malformed},
		{"D23", packed(2, []byte{1, 0, 1}), malformed},
		{"D24", frames(head(2, now, 1, 0, list{0, 1, -400 * 86_400_000, 1})), answer{row: wire.CodeTimePast, stored: 1}},
		{"D25", frames(head(2, now, 1, 0, list{0, 1, 3_600_000, 1})), answer{row: wire.CodeTimeFuture, stored: 1}},
		{"D26", one(1, math.NaN()), value(wire.CodeNotFinite)},
		{"D26", one(1, math.Inf(1)), value(wire.CodeNotFinite)},
		{"D26", one(1, float32(math.Inf(-1))), value(wire.CodeNotFinite)},
		{"D27", packed(4, nan), answer{stored: 1}},
		{"D28", packed(4, inf), value(wire.CodeNotFinite)},
		{"D29", one(1, 1<<53+1), value(wire.CodeRange)},
		{"D29", one(1, -(1<<53 + 1)), value(wire.CodeRange)},
		{"D29", one(1, uint64(math.MaxUint64)), value(wire.CodeRange)},
		{"D30", one(3, strings.Repeat("x", 256)), value(wire.CodeString)},
		{"D31", one(3, "\xC3("), value(wire.CodeString)},
		{"D32", one(3, "a\x00b"), value(wire.CodeString)},
		{"D33", one(1, true), value(wire.CodeType)},
		{"D33", one(1, "1"), value(wire.CodeType)},
		{"D33", one(1, []byte{1}), value(wire.CodeType)},
		{"D33", one(2, 1), value(wire.CodeType)},
		{"D33", one(2, 1.0), value(wire.CodeType)},
		{"D33", one(2, "x"), value(wire.CodeType)},
		{"D33", one(3, 1), value(wire.CodeType)},
		{"D33", one(3, false), value(wire.CodeType)},
		{"D33", one(3, []byte("x")), value(wire.CodeType)},
		{"D34", one(1, list{1}), value(wire.CodeUnsupported)},
		{"D34", one(1, hex{0x81, 1, 1}), value(wire.CodeUnsupported)},
		{"D34", one(3, ext{1, []byte{1}}), value(wire.CodeUnsupported)},
		{"D35", frames(head(1, now, 2, 1000, ext{2, []byte{1, 0}})), value(wire.CodeType)},
		{"D35", frames(head(1, now, 3, 1000, ext{2, []byte{1, 0}})), value(wire.CodeType)},
	}
}

// rowsTestedElsewhere are the rows of the table that need more than a frame.
var rowsTestedElsewhere = map[string]string{
	"H1": "TestHandshakeAnswersHonestly", "H2": "TestHandshakeAnswersHonestly", "H3": "TestHandshakeAnswersHonestly",
	"H4": "TestHandshakeAnswersHonestly", "H5": "TestHandshakeAnswersHonestly", "H6": "TestHandshakeAnswersHonestly",
	"H7": "TestHandshakeAnswersHonestly", "H8": "TestHandshakeAnswersHonestly", "H9": "TestHandshakeAnswersHonestly",
	"H10": "TestHandshakeAnswersHonestly", "H11": "TestHandshakeAnswersHonestly",
	"H12": "TestHandshakeStormWaitsOutside", "H13": "TestHandshakeIsTurnedAwayWhenFull",
	"H14": "TestHandshakeAnswersHonestly", "H15": "TestSlowHandshakes",
	"M1": "TestFirstFrameMustComeInTime", "M2": "TestBadInputText", "M3": "TestTrapOversizeIsRefusedByItsHeader",
	"M4": "TestTrapFourteenBytesDoNotKillTheServer", "M5": "TestTrapWebSocketBreaches",
	"M24": "TestAttackFrames", "M25": "TestAttackFrames", "M26": "TestGuardEndsAMessageThatTrickles", "M27": "TestAttackFrames",
	"H16": "TestAttackHandshake",
	"M21": "TestHeartbeatFindsADeadLink", "M20": "TestBadInputHello", "M22": "TestBadInputHello",
	"L15": "TestLayoutTheStoreRefuses", "D37": "TestQuotaOverASocket", "D36": "TestAckTellsDuplicatesAndPoisonApart",
}

// Every row of the table in PROTOCOL.md has a test.
func TestBadInputTableIsWhole(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../docs/PROTOCOL.md")
	require.NoError(t, err)
	tested := map[string]bool{}
	for id := range rowsTestedElsewhere {
		tested[id] = true
	}
	for _, input := range badInputs() {
		tested[input.id] = true
	}
	for _, match := range regexp.MustCompile(`(?m)^\| ([HMLD]\d+) \|`).FindAllSubmatch(text, -1) {
		require.True(t, tested[string(match[1])], "row %s has no test", match[1])
		delete(tested, string(match[1]))
	}
	require.Empty(t, tested, "tests of rows that are not there")
}

func TestBadInputGetsTheStatedAnswer(t *testing.T) {
	t.Parallel()
	sv := serve(t, quick(), newFakeStore())
	for n, input := range badInputs() {
		t.Run(input.id, func(t *testing.T) {
			t.Parallel()
			sv := sv
			if input.answer.close == wire.CloseWindow { // no ack must come in between
				store := newFakeStore()
				store.failed.Store(true)
				sv = serve(t, quick(), store)
			}
			d := sv.connect(t, n)
			d.send(d.encoder.Hello(wire.Hello{}))
			d.welcome()
			for i := range tableLayouts {
				d.send(d.encoder.Layout(&tableLayouts[i]))
			}
			for _, frame := range input.frames {
				d.send(frame)
			}
			if input.answer.close != 0 {
				d.closesWith(input.answer.close, true)
				return
			}
			d.check(input.answer)
			// The connection stays, and what comes next is stored.
			good, err := d.encoder.Data(&wire.Data{Seq: 1 << 40, Layout: 2, Rows: []wire.Row{{
				Time: time.Now().Truncate(time.Millisecond).UnixMicro(), Values: []wire.Value{{Kind: wire.ValueBool, Number: 1}},
			}}})
			require.NoError(t, err)
			d.send(good)
			ack := d.ackUpTo(1<<40 + 1)
			require.Zero(t, ack.Rejected)
			require.Len(t, sv.store.stored(int32(n)), input.answer.stored+1)
		})
	}
}

// check reads the answer and compares it.
func (d *device) check(want answer) {
	d.t.Helper()
	if want.ignored {
		return
	}
	var ack *wire.Ack
	var notice *wire.Notice
	wantAck := want.rows != 0 || want.row != 0 || want.value != 0 || want.stored > 0
	for (wantAck && ack == nil) || (want.notice != nil && notice == nil) {
		frame := d.next()
		if got, err := d.decoder.Ack(frame); err == nil {
			got.Rejects = append([]wire.Reject(nil), got.Rejects...)
			ack = &got
			continue
		}
		got, err := d.decoder.Notice(frame)
		require.NoError(d.t, err)
		notice = &got
	}
	require.Equal(d.t, want.notice, notice)
	if !wantAck {
		return
	}
	switch {
	case want.rows != 0:
		require.Equal(d.t, []wire.Reject{{Seq: tableSeq, N: ack.Next - tableSeq, Channel: wire.WholeRow, Code: want.rows}}, ack.Rejects)
		require.Equal(d.t, ack.Next-tableSeq, ack.Rejected)
	case want.row != 0:
		require.Equal(d.t, []wire.Reject{{Seq: tableSeq + 1, N: 1, Channel: wire.WholeRow, Code: want.row}}, ack.Rejects)
	case want.value != 0:
		require.Equal(d.t, []wire.Reject{{Seq: tableSeq, N: 1, Channel: 0, Code: want.value}}, ack.Rejects)
	default:
		require.Empty(d.t, ack.Rejects)
	}
}

func TestBadInputText(t *testing.T) {
	t.Parallel()
	sv := serve(t, quick(), newFakeStore())
	for name, text := range map[string]string{"JSON": `{"t":21.5}`, "not even UTF-8": "\xFF\xFE", "empty": ""} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := sv.connect(t, len(name))
			d.raw(masked(0x81, []byte(text)))
			d.closesWith(wire.CloseText, true)
		})
	}
}

func TestBadInputHello(t *testing.T) {
	t.Parallel()
	sv := serve(t, quick(), newFakeStore())
	for n, hello := range []list{
		{1, "x"},
		{1, 1 << 32},
		{1, -1},
		{1, 1, "30"},
		{1, 1, 65536},
		{1, 1, 30, 255},
		{1, 1, 30, "x"},
		{1, 1, 30, 1024, 5},
		{1, 1, 30, 1024, strings.Repeat("m", 65)},
		{1, 1, 30, 1024, "\xFF"},
		{1, 1, 30, 1024, "m", "\x00"},
	} {
		d := sv.connect(t, n)
		d.send(pack(hello))
		d.closesWith(wire.CloseBadFrame, true)
	}
	require.Zero(t, sv.registry.opened(), "none of them got a session")
}
