package wire

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// onTheWire is the size of a message from a client: RFC 6455 §5.2 puts 2 bytes
// before payloads up to 125 bytes and 4 before longer ones, and a 4-byte mask.
func onTheWire(payload int) int {
	if payload > 125 {
		return 4 + 4 + payload
	}
	return 2 + 4 + payload
}

// TestBytesPerReading keeps the protocol's budget. Sequence numbers take 5 bytes
// here, as they do from the 65,536th row on.
func TestBytesPerReading(t *testing.T) {
	t.Parallel()
	regular := sampleData(100, 1, ValueInt)
	regular.Step, regular.Packing = 1_000_000, PackInt16
	cases := []struct {
		name   string
		data   *Data
		budget float64 // 0: shown only
	}{
		{"1 reading, float32", sampleData(1, 1, ValueFloat32), 33},
		{"1 reading, scaled integer", sampleData(1, 1, ValueInt), 33},
		{"1 reading, float64", sampleData(1, 1, ValueNumber), 0},
		{"1 row × 10 channels, float32", sampleData(1, 10, ValueFloat32), 9},
		{"10 rows × 5 channels, float64", sampleData(10, 5, ValueNumber), 0},
		{"100 regular readings, packed int16", regular, 2.5},
	}
	for _, tc := range cases {
		frame, err := NewEncoder().Data(tc.data)
		require.NoError(t, err)
		readings := len(tc.data.Rows) * len(tc.data.Rows[0].Values)
		each := float64(onTheWire(len(frame))) / float64(readings)
		t.Logf("%-36s %6.2f bytes a reading (budget %g)", tc.name, each, tc.budget)
		if tc.budget > 0 {
			require.LessOrEqual(t, each, tc.budget, tc.name)
		}
	}
}

// TestServerFramesStaySmall keeps what any client can take: 1 KiB.
func TestServerFramesStaySmall(t *testing.T) {
	t.Parallel()
	ack := &Ack{Next: MaxSeq, Window: maxCount, Rejected: 1<<64 - 1}
	for i := range 40 {
		ack.Rejects = append(ack.Rejects, Reject{Seq: MaxSeq - 1, N: MaxSeq, Channel: 255 - i%2, Code: 255})
	}
	encoder := NewEncoder()
	require.Len(t, encoder.Ack(ack), MaxAckBytes)
	require.Less(t, MaxAckBytes, 1024)
	t.Logf("the largest ACK has %d bytes", MaxAckBytes)

	for limit := range MaxAckBytes + 2 {
		frame, listed := encoder.AckWithin(ack, limit)
		if limit == 0 {
			require.Equal(t, MaxAckRejects, listed)
			continue
		}
		if limit >= maxAckHead {
			require.LessOrEqual(t, len(frame), limit)
		}
		more := *ack
		more.Rejects = ack.Rejects[:min(listed+1, MaxAckRejects)]
		if listed < MaxAckRejects {
			require.Greater(t, len(NewEncoder().Ack(&more)), limit, "one more would fit into %d", limit)
		}
		decoded, err := NewDecoder(Limits{}).Ack(frame)
		require.NoError(t, err)
		require.Len(t, decoded.Rejects, listed)
		require.Equal(t, ack.Rejected, decoded.Rejected)
	}
	welcome := encoder.Welcome(Welcome{
		Time: maxMillis, Session: MaxSeq, Heartbeat: maxCount, MaxFrame: 1 << 30, Window: maxCount,
		Spread: maxCount, Next: MaxSeq, HasNext: true,
	})
	require.LessOrEqual(t, len(welcome), MinReceive)
}

// TestAckWithinKeepsWhatMayPass sees that refusals that are not final stay.
func TestAckWithinKeepsWhatMayPass(t *testing.T) {
	t.Parallel()
	ack := &Ack{Next: 100, Window: 16, Rejected: 41}
	for i := range uint64(40) {
		ack.Rejects = append(ack.Rejects, Reject{Seq: i, N: 1, Channel: 0, Code: CodeType})
	}
	last := Reject{Seq: 70, N: 2, Channel: WholeRow, Code: CodeUnknownLayout}
	ack.Rejects = append(ack.Rejects, last)
	for _, limit := range []int{0, 60, 20} {
		frame, listed := NewEncoder().AckWithin(ack, limit)
		decoded, err := NewDecoder(Limits{}).Ack(frame)
		require.NoError(t, err)
		require.Len(t, decoded.Rejects, listed)
		require.Contains(t, decoded.Rejects, last)
	}
}
