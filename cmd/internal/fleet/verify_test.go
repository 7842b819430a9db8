package fleet

import (
	"context"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"mooring/storage"
	"mooring/wire"
)

// stored is a database in the hands of a test: rows by device.
type stored map[string][]storage.Sample

func (s stored) Samples(_ context.Context, device string, yield func(storage.Sample) error) error {
	for _, sample := range s[device] {
		if err := yield(sample); err != nil {
			return err
		}
	}
	return nil
}

// Books balance and agree with the rows.
func (s stored) Books(_ context.Context, device string) (storage.Books, error) {
	rows := int64(len(s[device]))
	return storage.Books{Received: rows, Committed: rows}, nil
}

// booked is stored with books of its own.
type booked struct {
	stored
	books storage.Books
}

func (b booked) Books(context.Context, string) (storage.Books, error) { return b.books, nil }

func TestVerifyJudgesTheBooks(t *testing.T) {
	t.Parallel()
	ledger, rows := settledRun()
	count := int64(len(rows["sim-1"]))
	for name, test := range map[string]struct {
		books storage.Books
		want  string // empty: clean
	}{
		"balance":              {storage.Books{Received: count + 5, Committed: count, Duplicate: 5}, ""},
		"don't balance":        {storage.Books{Received: count + 1, Committed: count, Difference: 1}, "a difference of 1"},
		"less is stored":       {storage.Books{Received: count + 1, Committed: count + 1}, "rows are stored, the books say"},
		"more is stored":       {storage.Books{Received: count - 1, Committed: count - 1}, "rows are stored, the books say"},
		"older than the books": {storage.Books{Received: 3, Committed: 3, Older: true}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			verdict, err := Verify(t.Context(), booked{rows, test.books}, ledger)
			require.NoError(t, err)
			require.Equal(t, test.want == "", verdict.Clean)
			if test.want != "" {
				require.EqualValues(t, 1, verdict.Unbalanced)
				require.Contains(t, verdict.Problems[0].String(), test.want)
			}
		})
	}
}

// settledRun is a ledger of one device with two boots of 200 rows, all
// acknowledged, and what a right server has stored of it.
func settledRun() (*Ledger, stored) {
	ledger := &Ledger{Header: Header{Run: 5, Seed: 6, Channels: 8, Refusals: 10}}
	plan := ledger.Header.plan()
	layout := plan.Layout()
	rows := stored{}
	var boots []*BootRecord
	for number := range 2 {
		boot := &BootRecord{Boot: *someBoot(number), Sent: 200, Acked: 200, Ended: true}
		boots = append(boots, boot)
		for seq := range boot.Acked {
			if refusal, refused := plan.Refusal(&boot.Boot, seq); refused {
				boot.Refused = append(boot.Refused, wire.Reject{Seq: seq, N: 1, Channel: refusal.Channel, Code: refusal.Code})
				if refusal.Channel == wire.WholeRow {
					continue
				}
			}
			rows[boot.Device] = append(rows[boot.Device], storage.Sample{
				Time: 1000 * plan.Time(&boot.Boot, seq), Seq: seq, Layout: layout.Name, Channels: layout.Channels,
				Values: plan.AppendStored(nil, &boot.Boot, seq),
			})
		}
	}
	ledger.Devices = [][]*BootRecord{boots}
	return ledger, rows
}

func TestVerify(t *testing.T) {
	t.Parallel()
	// Row 3 of boot 1 has no refusal in this plan.
	const device, at = "sim-1", 3
	find := func(rows stored, plan *Plan, boot *BootRecord) int {
		for i, sample := range rows[device] {
			if sample.Seq == at && sample.Time == 1000*plan.Time(&boot.Boot, at) {
				return i
			}
		}
		return -1
	}
	for name, test := range map[string]struct {
		damage func(ledger *Ledger, rows stored, i int)
		want   *Problem // nil: clean
		count  func(v *Verdict) uint64
	}{
		"nothing": {func(*Ledger, stored, int) {}, nil, nil},
		"missing": {func(_ *Ledger, rows stored, i int) {
			rows[device] = append(rows[device][:i:i], rows[device][i+1:]...)
		}, &Problem{Kind: ProblemMissing}, func(v *Verdict) uint64 { return v.Missing }},
		"missing, but not acknowledged": {func(ledger *Ledger, rows stored, i int) {
			rows[device] = rows[device][:i]
			ledger.Devices[0][1].Acked = at
			ledger.Devices[0][1].Refused = nil
		}, nil, nil},
		"missing, but given up": {func(ledger *Ledger, rows stored, i int) {
			rows[device] = append(rows[device][:i:i], rows[device][i+1:]...)
			ledger.Devices[0][1].Dropped = []span{{at, 1}}
		}, nil, nil},
		"under another time": {func(_ *Ledger, rows stored, i int) {
			twin := rows[device][i]
			twin.Time += 777
			rows[device] = append(rows[device], twin)
		}, &Problem{Kind: ProblemTwice}, func(v *Verdict) uint64 { return v.Twice }},
		"under one time": {func(_ *Ledger, rows stored, i int) {
			rows[device] = append(rows[device], rows[device][i])
		}, &Problem{Kind: ProblemTwice}, func(v *Verdict) uint64 { return v.Twice }},
		"a value altered by one bit": {func(_ *Ledger, rows stored, i int) {
			value := &rows[device][i].Values[1]
			value.Number = math.Nextafter(value.Number, math.Inf(1))
		}, &Problem{Kind: ProblemWrong, Channel: "temperature"}, func(v *Verdict) uint64 { return v.Wrong }},
		"a value lost": {func(_ *Ledger, rows stored, i int) {
			rows[device][i].Values[3] = wire.Value{}
		}, &Problem{Kind: ProblemWrong, Channel: "humidity"}, func(v *Verdict) uint64 { return v.Wrong }},
		"the origin altered": {func(_ *Ledger, rows stored, i int) {
			rows[device][i].Values[0].Number++
		}, &Problem{Kind: ProblemWrong, Channel: "origin"}, func(v *Verdict) uint64 { return v.Wrong }},
		"never sent": {func(_ *Ledger, rows stored, i int) {
			stray := rows[device][i]
			stray.Seq = 999
			rows[device] = append(rows[device], stray)
		}, &Problem{Kind: ProblemUnexpected, Seq: 999}, func(v *Verdict) uint64 { return v.Unexpected }},
		"of another run": {func(_ *Ledger, rows stored, i int) {
			stray := rows[device][i]
			stray.Seq = 999
			stray.Values = append([]wire.Value{{Kind: wire.ValueNumber, Number: 12}}, stray.Values[1:]...)
			rows[device] = append(rows[device], stray)
		}, nil, nil},
		"refused without reason": {func(ledger *Ledger, rows stored, i int) {
			rows[device] = append(rows[device][:i:i], rows[device][i+1:]...)
			boot := ledger.Devices[0][1]
			boot.Refused = append(boot.Refused, wire.Reject{Seq: at, N: 1, Channel: wire.WholeRow, Code: wire.CodeStorage})
		}, &Problem{Kind: ProblemRefused, Detail: "STORAGE"}, func(v *Verdict) uint64 { return v.Refused }},
		"left by an intruder": {func(_ *Ledger, rows stored, _ int) {
			rows[device] = append(rows[device], storage.Sample{Layout: intruderLayout, Values: make([]wire.Value, 3)})
		}, nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ledger, rows := settledRun()
			i := find(rows, ledger.Header.plan(), ledger.Devices[0][1])
			require.GreaterOrEqual(t, i, 0)
			test.damage(ledger, rows, i)
			verdict, err := Verify(t.Context(), rows, ledger)
			require.NoError(t, err)
			if test.want == nil {
				require.True(t, verdict.Clean, verdict.Problems)
				return
			}
			require.False(t, verdict.Clean)
			require.EqualValues(t, 1, test.count(&verdict))
			require.Len(t, verdict.Problems, 1)
			problem := verdict.Problems[0]
			require.Equal(t, test.want.Kind, problem.Kind)
			require.Equal(t, device, problem.Device)
			require.Equal(t, 1, problem.Boot)
			if test.want.Seq == 0 {
				test.want.Seq = at
			}
			require.Equal(t, test.want.Seq, problem.Seq)
			require.Equal(t, test.want.Channel, problem.Channel)
			if test.want.Detail != "" {
				require.Equal(t, test.want.Detail, problem.Detail)
			}
		})
	}
}

func TestVerifyKnowsDuplicatesOfAnotherRun(t *testing.T) {
	t.Parallel()
	ledger, rows := settledRun()
	rows["sim-1"][0].Values[0].Number = 12 // run 0, boot 12
	verdict, err := Verify(t.Context(), rows, ledger)
	require.NoError(t, err)
	require.True(t, verdict.Clean, verdict.Problems)
	require.EqualValues(t, 1, verdict.Taken)
}

func TestVerifyFindsWhatShouldHaveBeenRefused(t *testing.T) {
	t.Parallel()
	ledger, rows := settledRun()
	plan, boot := ledger.Header.plan(), ledger.Devices[0][0]
	layout := plan.Layout()
	clean, err := Verify(t.Context(), rows, ledger)
	require.NoError(t, err)
	require.Positive(t, clean.RefusedRows)
	require.Positive(t, clean.RefusedValues)
	var whole, single bool
	for seq := range boot.Acked {
		refusal, refused := plan.Refusal(&boot.Boot, seq)
		if !refused {
			continue
		}
		if refusal.Channel == wire.WholeRow && !whole {
			whole = true
			rows["sim-1"] = append(rows["sim-1"], storage.Sample{
				Time: 1000 * plan.Time(&boot.Boot, seq), Seq: seq, Layout: layout.Name,
				Values: plan.AppendStored(nil, &boot.Boot, seq),
			})
		}
		if refusal.Channel > 0 && !single {
			single = true
			for i := range rows["sim-1"] {
				if rows["sim-1"][i].Seq == seq && rows["sim-1"][i].Time == 1000*plan.Time(&boot.Boot, seq) {
					rows["sim-1"][i].Values[refusal.Channel] = wire.Value{Kind: wire.ValueNumber, Number: 1}
				}
			}
		}
	}
	verdict, err := Verify(t.Context(), rows, ledger, MaxProblems(1))
	require.NoError(t, err)
	require.EqualValues(t, 2, verdict.NotRefused)
	require.Len(t, verdict.Problems, 1)
	require.EqualValues(t, 1, verdict.MoreProblems)
}

// BenchmarkVerify is the comparison of one stored row of five channels.
func BenchmarkVerify(b *testing.B) {
	ledger, rows := settledRun()
	b.ReportAllocs()
	for b.Loop() {
		verdict, err := Verify(b.Context(), rows, ledger)
		if err != nil || !verdict.Clean {
			b.Fatal(err, verdict)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(rows["sim-1"])), "ns/row")
}
