package fleet

import (
	"testing"

	"github.com/stretchr/testify/require"

	"mooring/wire"
)

func heavyPlan(channels int) *Plan {
	return &Plan{Run: 4_000_000_000, Seed: 42, Channels: channels, Refusals: 7}
}

func someBoot(number int) *Boot {
	return &Boot{
		Device: "sim-1", Index: 3, Number: number, BootID: 9, Base: 1_790_000_000_000 + int64(number), Period: 2500, Coarse: 1000,
		Jumps: []Jump{{From: 100, Offset: 10 * cycle}, {From: 300, Offset: -4 * cycle}},
	}
}

// TestTheServerSeesWhatThePlanSays sends rows through the codec and compares
// what it takes and refuses with what the plan expects: the very comparison that
// Verify rests on.
func TestTheServerSeesWhatThePlanSays(t *testing.T) {
	t.Parallel()
	for _, channels := range []int{1, 2, 5, 8, 20} {
		plan, boot := heavyPlan(channels), someBoot(0)
		layout := plan.Layout()
		require.Len(t, layout.Channels, channels)
		encoder, decoder := wire.NewEncoder(), wire.NewDecoder(wire.Limits{})
		checked, err := decoder.Layout(encoder.Layout(&layout))
		require.NoError(t, err, "a layout that the server takes")
		const day = 24 * 3600 * 1_000_000
		decoder.SetTimeRange(boot.Base*1000-day, boot.Base*1000+day)
		seen := make(map[wire.Code]int)
		for seq := range uint64(2000) {
			data := wire.Data{Seq: seq, Rows: []wire.Row{{
				Time: 1000 * plan.Time(boot, seq), Values: plan.AppendSent(nil, boot, seq),
			}}}
			frame, err := encoder.Data(&data)
			require.NoError(t, err)
			_, err = decoder.DataHead(frame)
			require.NoError(t, err)
			decoder.Rows(&checked, 0)
			var row wire.Row
			stored := decoder.Next(&row)
			require.NoError(t, decoder.Err())
			refusal, refused := plan.Refusal(boot, seq)
			if refused {
				seen[refusal.Code]++
				require.Equal(t, []wire.Reject{{Seq: seq, N: 1, Channel: refusal.Channel, Code: refusal.Code}}, decoder.Rejects())
				require.Equal(t, refusal.Channel != wire.WholeRow, stored)
			} else {
				require.True(t, stored)
				require.Zero(t, decoder.Rejected())
			}
			if stored {
				require.Equal(t, 1000*plan.Time(boot, seq), row.Time)
				expected := plan.AppendStored(nil, boot, seq)
				require.Len(t, row.Values, len(expected))
				for i := range expected {
					require.True(t, equal(expected[i], row.Values[i]), "row %d channel %d: %s, not %s",
						seq, i, show(row.Values[i]), show(expected[i]))
				}
			}
		}
		want := 2
		if channels >= 5 {
			want = 5
		}
		if channels >= 8 {
			want = 6
		}
		require.GreaterOrEqual(t, len(seen), want, "%v", seen)
	}
}

func TestValuesDependOnEverything(t *testing.T) {
	t.Parallel()
	value := func(seed uint64, index, boot int, seq uint64, channel int) float64 {
		plan := &Plan{Seed: seed, Channels: 5}
		return plan.measured(&Boot{Index: index, Number: boot}, seq, channel).Number
	}
	base := value(1, 2, 3, 4, 1)
	require.Equal(t, base, value(1, 2, 3, 4, 1))
	for i, other := range []float64{
		value(2, 2, 3, 4, 1), value(1, 3, 3, 4, 1), value(1, 2, 4, 4, 1), value(1, 2, 3, 5, 1),
	} {
		require.NotEqual(t, base, other, i)
	}
}

// TestIdentitiesAreDistinct: Verify could not tell rows apart otherwise, and the
// server would take one for a duplicate of the other.
func TestIdentitiesAreDistinct(t *testing.T) {
	t.Parallel()
	type identity struct {
		time int64
		seq  uint64
	}
	cfg := Config{Tokens: make([]Credential, 4), Rate: 4000, Rows: 10, Faults: FaultsHeavy, Seed: 5}
	r := &run{cfg: cfg, rates: faultRates[FaultsHeavy], plan: &Plan{Run: 77, Seed: 5, Channels: 3}}
	for index := range cfg.Tokens {
		seen := make(map[identity]bool)
		d := newDevice(r, index, Credential{})
		for number := range 50 {
			boot := liveBoot{Boot: Boot{Index: index, Number: number, Period: d.period, Coarse: d.coarse}}
			// The worst case: all boots begin at once and leap at random.
			boot.Base = d.base(1_790_000_000_000, number)
			require.LessOrEqual(t, boot.Base, int64(1_790_000_000_000))
			require.Greater(t, boot.Base, int64(1_790_000_000_000-cycle))
			boot.leap(d.random(purposeBoot+uint64(number)), 4)
			for seq := range uint64(2000) {
				id := identity{r.plan.Time(&boot.Boot, seq), seq}
				require.False(t, seen[id], "boot %d row %d", number, seq)
				seen[id] = true
			}
		}
	}
}

func TestOriginNamesRunAndBoot(t *testing.T) {
	t.Parallel()
	plan := &Plan{Run: 1<<32 - 1}
	number := func(n float64) wire.Value { return wire.Value{Kind: wire.ValueNumber, Number: n} }
	boot, ours := plan.bootOf(number(float64(plan.Origin(1023))))
	require.True(t, ours)
	require.Equal(t, 1023, boot)
	for _, other := range []wire.Value{
		{}, number(1.5), number(-1), number(1 << 60), number(float64((&Plan{Run: 5}).Origin(0))),
	} {
		_, ours = plan.bootOf(other)
		require.False(t, ours)
	}
}
