package storage

import "slices"

// stretch is rows of one pair that lie one behind the other in a batch: mostly
// a frame of a device.
type stretch struct {
	pair   pair
	begin  int // place in the batch
	rows   []byte
	count  int
	oldest int64
	newest int64
	last   encodedRow // the newest row
}

// run is what a batch holds of one pair.
type run struct {
	pair       pair
	stretches  []stretch
	count      int
	oldest     int64
	newest     int64
	last       encodedRow // the newest row
	opens      bool       // brings a mark without an end
	late       bool       // brings a mark from markFrom to markTo
	markFrom   int64
	markTo     int64
	markNumber int64
}

// arrangement is a batch in the order of its devices: that in which it goes to
// Postgres, for which rows of one device, one behind the other, are much less
// work than as they come in (decision 082). No row is moved in memory. Its
// buffers are kept from batch to batch.
type arrangement struct {
	batch  []byte
	found  []stretch // as they lie in the batch
	places []uint64  // device, then place among found
	sorted []stretch
	runs   []run
	list   [][]byte // of pieces
}

// arrange takes a batch on. It fails if rows is not a sequence of count rows.
// What it makes refers to rows until release.
func (a *arrangement) arrange(rows []byte, count int) error {
	a.batch, a.found = rows, a.found[:0]
	inOrder := true
	at := 0
	for range count {
		row, _, err := firstRow(rows[at:])
		if err != nil {
			return err
		}
		p := pair{row.device(), row.layout()}
		last := len(a.found) - 1
		if last < 0 || a.found[last].pair != p {
			inOrder = inOrder && (last < 0 || a.found[last].pair.device <= p.device)
			a.found = append(a.found, stretch{pair: p})
			last++
		}
		a.found[last].take(rows, at, row)
		at += len(row)
	}
	if at != len(rows) {
		return errBatch
	}
	if inOrder {
		a.sorted = append(a.sorted[:0], a.found...)
	} else {
		a.sort()
	}
	a.join()
	return nil
}

// take makes the row at this place in the batch the stretch's last.
func (s *stretch) take(batch []byte, place int, row encodedRow) {
	at := row.time()
	if s.count == 0 {
		s.begin, s.oldest, s.newest, s.last = place, at, at, row
	}
	s.rows = batch[s.begin : place+len(row)]
	s.count++
	s.oldest = min(s.oldest, at)
	if at > s.newest || at == s.newest && row.seq() >= s.last.seq() {
		s.newest, s.last = at, row
	}
}

// sort fills sorted: by device, and for each device as the batch has it.
func (a *arrangement) sort() {
	a.places = a.places[:0]
	for i := range a.found {
		a.places = append(a.places, uint64(uint32(a.found[i].pair.device))<<32|uint64(i))
	}
	slices.Sort(a.places)
	a.sorted = a.sorted[:0]
	for _, place := range a.places {
		a.sorted = append(a.sorted, a.found[uint32(place)])
	}
}

// join fills runs: stretches of one pair that have come together.
func (a *arrangement) join() {
	a.runs = a.runs[:0]
	for i := range a.sorted {
		s := &a.sorted[i]
		if last := len(a.runs) - 1; last >= 0 && a.runs[last].pair == s.pair {
			r := &a.runs[last]
			r.stretches = r.stretches[:len(r.stretches)+1] // the next of sorted
			r.count += s.count
			r.oldest = min(r.oldest, s.oldest)
			if s.newest > r.newest || s.newest == r.newest && s.last.seq() >= r.last.seq() {
				r.newest, r.last = s.newest, s.last
			}
			continue
		}
		a.runs = append(a.runs, run{
			pair: s.pair, stretches: a.sorted[i : i+1], count: s.count, oldest: s.oldest, newest: s.newest, last: s.last,
		})
	}
}

// leaveOut takes out the rows in known, and says how many of each device.
func (a *arrangement) leaveOut(known *storedRows) (left map[int32]int) {
	left = make(map[int32]int)
	rest := a.found[:0] // found has done its duty
	for i := range a.sorted {
		s := a.sorted[i]
		if !known.devices[s.pair.device] {
			rest = append(rest, s)
			continue
		}
		from, to := s.begin, s.begin+len(s.rows)
		s.count = 0
		for place := from; place < to; {
			row, _, _ := firstRow(a.batch[place:]) // arrange has checked
			if known.has(row) {
				left[s.pair.device]++
				if s.count > 0 {
					rest = append(rest, s)
				}
				s.count = 0
			} else {
				s.take(a.batch, place, row)
			}
			place += len(row)
		}
		if s.count > 0 {
			rest = append(rest, s)
		}
	}
	a.found, a.sorted = a.sorted, rest
	a.join()
	return left
}

// pieces gives the bytes to be sent. Valid until the next call.
func (a *arrangement) pieces() [][]byte {
	a.list = append(a.list[:0], copyHeader)
	end := -1 // of the last piece, as a place in the batch
	for i := range a.sorted {
		s := &a.sorted[i]
		if s.begin == end {
			last := &a.list[len(a.list)-1]
			*last = a.batch[end-len(*last) : s.begin+len(s.rows)]
		} else {
			a.list = append(a.list, s.rows)
		}
		end = s.begin + len(s.rows)
	}
	a.list = append(a.list, copyTrailer)
	return a.list
}

// release lets go of the batch, and of buffers that one large batch has left.
func (a *arrangement) release() {
	const most = 1 << 16
	if cap(a.found) > most && len(a.found) < cap(a.found)/4 {
		*a = arrangement{}
		return
	}
	clear(a.found)
	clear(a.sorted)
	clear(a.runs)
	clear(a.list)
	a.batch = nil
}
