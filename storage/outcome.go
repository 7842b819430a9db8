package storage

// RejectedRow is a row that the database refuses for good.
type RejectedRow struct {
	Device int32
	Seq    uint64
	Time   int64 // microseconds since 1970
}

// Outcome is what became of a written batch.
type Outcome struct {
	// Duplicates counts the rows that were stored before, by device; nil: none.
	Duplicates map[int32]int
	// Rejected are the rows that could not be stored. They are in mooring.rejects, as far as the limit per device goes.
	Rejected []RejectedRow
}

func (o *Outcome) addDuplicates(device int32, n int) {
	if n <= 0 {
		return
	}
	if o.Duplicates == nil {
		o.Duplicates = make(map[int32]int)
	}
	o.Duplicates[device] += n
}
