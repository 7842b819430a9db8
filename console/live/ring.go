package live

// event is a command's or a refusal's news, for all viewers.
type event struct {
	number uint64
	change uint64
	kind   events
	device string // empty: of nobody in particular
	name   string // type of the message
	fields []byte // of the message, each with a comma before it
}

// ring keeps the newest events, bounded in number and bytes. Of Hub.mu.
type ring struct {
	list  []event // oldest first
	bytes int
	last  uint64 // number of the newest event ever
}

func (r *ring) push(e event) {
	r.last++
	e.number = r.last
	r.list = append(r.list, e)
	r.bytes += len(e.fields)
	for len(r.list) > ringEvents || r.bytes > ringBytes && len(r.list) > 1 {
		r.bytes -= len(r.list[0].fields)
		r.list[0] = event{} // let go of its bytes
		r.list = r.list[1:]
	}
}

// after are the events behind a number, and how many of them are gone.
func (r *ring) after(number uint64) (list []event, gone uint64) {
	behind := r.last - number
	if behind >= uint64(len(r.list)) {
		return r.list, behind - uint64(len(r.list))
	}
	return r.list[uint64(len(r.list))-behind:], 0
}

func (r *ring) clear() { r.list, r.bytes = nil, 0 }
