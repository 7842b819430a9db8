package client

import "time"

// flight is the queue of frames sent on a connection and not acknowledged. It
// is as long as the window at most, and keeps its memory.
type flight struct {
	frames []sentFrame // a ring
	first  int
	count  int
}

type sentFrame struct {
	next uint64        // first sequence number behind the frame
	at   time.Duration // when it was sent, since Client.started
}

func (f *flight) push(frame sentFrame) {
	if f.count == len(f.frames) {
		grown := make([]sentFrame, max(4, 2*len(f.frames)))
		for i := range f.count {
			grown[i] = f.frames[(f.first+i)%len(f.frames)]
		}
		f.frames, f.first = grown, 0
	}
	f.frames[(f.first+f.count)%len(f.frames)] = frame
	f.count++
}

// oldest gives the oldest frame, if there is one.
func (f *flight) oldest() (sentFrame, bool) {
	if f.count == 0 {
		return sentFrame{}, false
	}
	return f.frames[f.first], true
}

func (f *flight) pop() {
	f.first = (f.first + 1) % len(f.frames)
	f.count--
}

func (f *flight) clear() { f.first, f.count = 0, 0 }
