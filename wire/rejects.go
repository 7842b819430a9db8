package wire

import "slices"

// maxKeptRejects is how many entries the list keeps room for between frames; a
// frame of nothing but faults must not cost its connection megabytes for ever.
const maxKeptRejects = 256

// rejectRuns gathers a frame's refusals, joining consecutive rows of one
// channel and code into one entry.
type rejectRuns struct {
	list []Reject
	open []int32 // by channel+1: index+1 in list of its latest entry, 0: none
	// values and whole rows refused, and whole rows among them
	refused, rows uint64
}

func (r *rejectRuns) reset() {
	if cap(r.list) > maxKeptRejects {
		r.list = nil
	}
	r.list = r.list[:0]
	r.refused, r.rows = 0, 0
}

// add refuses one channel of a row, or the row if channel is WholeRow.
// channels is the number of channels of the layout.
func (r *rejectRuns) add(seq uint64, channel int, code Code, channels int) {
	if len(r.list) == 0 {
		if cap(r.open) < channels+1 {
			r.open = make([]int32, channels+1)
		}
		r.open = r.open[:channels+1]
		clear(r.open)
	}
	r.refused++
	if channel == WholeRow {
		r.rows++
	}
	if at := r.open[channel+1]; at > 0 {
		if run := &r.list[at-1]; run.Code == code && run.Seq+run.N == seq {
			run.N++
			return
		}
	}
	r.list = append(r.list, Reject{Seq: seq, N: 1, Channel: channel, Code: code})
	r.open[channel+1] = int32(len(r.list))
}

// whole makes the refusal of the whole frame the only one.
func (r *rejectRuns) whole(fault *BodyError) {
	r.list = append(r.list[:0], fault.Reject())
	r.refused, r.rows = fault.N, fault.N
}

// AppendRejects adds refusals to a list for an ACK, of MaxAckRejects entries at
// most. It joins runs that continue one in the list. Of what finds no room,
// final refusals go first, since a device that does not hear of the others would
// lose rows that it could have sent again (PROTOCOL §6.2.3). It allocates only
// for list to grow.
func AppendRejects(list, more []Reject) []Reject {
	for i := range more {
		list = appendReject(list, &more[i])
	}
	return list
}

func appendReject(list []Reject, reject *Reject) []Reject {
	for i := len(list) - 1; i >= 0; i-- {
		run := &list[i]
		if run.Channel == reject.Channel && run.Code == reject.Code && run.Seq+run.N == reject.Seq {
			run.N += reject.N
			return list
		}
	}
	if len(list) < MaxAckRejects {
		return append(list, *reject)
	}
	if reject.Code.Final() {
		return list
	}
	for i, known := range slices.Backward(list) {
		if known.Code.Final() {
			// Behind the others, so that those of the oldest rows come first: they are
			// told where there is room for some only.
			return append(slices.Delete(list, i, i+1), *reject)
		}
	}
	return list
}
