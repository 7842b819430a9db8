package ingest

import "testing"

// BenchmarkAppend puts frames of ten encoded rows of 5 numbers into the
// gathering batch, which a writer takes whenever it holds 10,000 rows: room,
// rows, and the note of the session, as for every frame.
func BenchmarkAppend(b *testing.B) {
	sh := looseShard(Config{}, newFakeStore())
	sessions := make([]*session, 100)
	for n := range sessions {
		sessions[n] = loose(sh, int32(n))
	}
	const rowBytes, rowsPerFrame = 134, 10
	e := entry{rows: make([]byte, rowBytes*rowsPerFrame), count: rowsPerFrame, rowsIn: rowsPerFrame, received: 1}
	b.SetBytes(int64(len(e.rows)))
	b.ReportAllocs()
	at := 0
	for b.Loop() {
		e.session = sessions[at%len(sessions)]
		at++
		e.seq, e.next = uint64(at), uint64(at+rowsPerFrame)
		if err := sh.reserve(b.Context(), e.session, len(e.rows)); err != nil {
			b.Fatal(err)
		}
		if err := sh.add(b.Context(), &e, len(e.rows)); err != nil {
			b.Fatal(err)
		}
		if at%1000 == 0 {
			sh.recycle(sh.take())
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(at*rowsPerFrame), "ns/row")
}
