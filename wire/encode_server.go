package wire

// Welcome encodes a WELCOME (PROTOCOL §6.1).
func (e *Encoder) Welcome(welcome Welcome) []byte {
	e.begin(FrameWelcome, 6+lastPresent(welcome.HasNext))
	e.int(welcome.Time)
	e.int(welcome.Session)
	e.int(int64(welcome.Heartbeat))
	e.int(int64(welcome.MaxFrame))
	e.int(int64(welcome.Window))
	e.int(int64(welcome.Spread))
	if welcome.HasNext {
		e.uint(welcome.Next)
	}
	return e.buffer.bytes
}

// MaxAckBytes is the size of the largest ACK: 32 refusals of 22 bytes at most
// behind a head of 26, so that every ACK stays under the 1 KiB that simple
// clients can take.
const MaxAckBytes = maxAckHead + MaxAckRejects*maxRejectBytes

const (
	// array header 1, type 1, next 9, window 3, rejected 9, array header 3
	maxAckHead = 26
	// seq 9, n 9, channel 2 while layouts have at most 256 of them, code 2
	maxRejectBytes = 22
)

// Ack encodes an ACK with the first MaxAckRejects refusals (PROTOCOL §6.2).
func (e *Encoder) Ack(ack *Ack) []byte {
	frame, _ := e.AckWithin(ack, 0)
	return frame
}

// AckWithin encodes an ACK of at most maxBytes, which is what the device can
// take, leaving out refusals that do not fit, final ones first (PROTOCOL
// §6.2.3); listed tells how many are in it. The head alone takes up to 26 bytes
// and is never cut. maxBytes 0 means no limit but MaxAckRejects.
func (e *Encoder) AckWithin(ack *Ack, maxBytes int) (frame []byte, listed int) {
	listed = min(len(ack.Rejects), MaxAckRejects)
	for {
		e.ack(ack, listed)
		excess := len(e.buffer.bytes) - maxBytes
		if maxBytes <= 0 || excess <= 0 || listed == 0 {
			return e.buffer.bytes, listed
		}
		// No refusal takes more than this, so as many are too many at least.
		listed -= min(listed, max(1, excess/maxRejectBytes))
	}
}

func (e *Encoder) ack(ack *Ack, listed int) {
	count := 2 + lastPresent(ack.Rejected != 0, listed > 0)
	e.begin(FrameAck, count)
	e.uint(ack.Next)
	e.int(int64(ack.Window))
	if count > 2 {
		e.uint(ack.Rejected)
	}
	if count <= 3 {
		return
	}
	e.array(4 * listed)
	if listed == len(ack.Rejects) {
		for i := range ack.Rejects {
			e.reject(&ack.Rejects[i])
		}
		return
	}
	for _, final := range [...]bool{false, true} {
		for i := range ack.Rejects {
			if reject := &ack.Rejects[i]; listed > 0 && reject.Code.Final() == final {
				e.reject(reject)
				listed--
			}
		}
	}
}

func (e *Encoder) reject(reject *Reject) {
	e.uint(reject.Seq)
	e.uint(reject.N)
	e.channel(reject.Channel)
	e.uint(uint64(reject.Code))
}

// Command encodes a COMMAND (PROTOCOL §6.3). Args are written as they stand.
func (e *Encoder) Command(command Command) []byte {
	count := 2 + lastPresent(len(command.Args) > 0, command.TTL != 0, command.Flags != 0)
	e.begin(FrameCommand, count)
	e.int(command.ID)
	e.string(command.Name)
	if count > 2 {
		e.raw(command.Args)
	}
	if count > 3 {
		e.optional(int64(command.TTL))
	}
	if count > 4 {
		e.uint(uint64(command.Flags))
	}
	return e.buffer.bytes
}

// Notice encodes a NOTICE (PROTOCOL §6.4).
func (e *Encoder) Notice(notice Notice) []byte {
	begin := func(fields int) {
		e.begin(FrameNotice, 1+fields)
		e.uint(uint64(notice.Kind))
	}
	switch notice.Kind {
	case NoticeTime:
		begin(1)
		e.int(notice.Time)
	case NoticeThrottle:
		begin(2)
		e.int(int64(notice.MinGapMillis))
		e.int(int64(notice.ForSeconds))
	case NoticeGoAway:
		count := 4 + lastPresent(notice.Text != "")
		begin(count)
		e.uint(uint64(notice.Code))
		e.int(int64(notice.GraceMillis))
		e.int(int64(notice.MinMillis))
		e.int(int64(notice.MaxMillis))
		if count > 4 {
			e.string(notice.Text)
		}
	case NoticeParams:
		begin(4)
		e.optional(int64(notice.Heartbeat))
		e.optional(int64(notice.MaxFrame))
		e.optional(int64(notice.Window))
		e.optional(int64(notice.Spread))
	case NoticeLayoutRejected:
		begin(3)
		e.uint(uint64(notice.Layout))
		e.channel(notice.Channel)
		e.uint(uint64(notice.Reason))
	case NoticeNeedLayout:
		begin(1)
		e.uint(uint64(notice.Layout))
	default:
		begin(0)
	}
	return e.buffer.bytes
}

// Pong encodes a PONG (PROTOCOL §6.5).
func (e *Encoder) Pong(pong Pong) []byte {
	e.begin(FramePong, 2)
	e.uint(pong.Echo)
	e.int(pong.Time)
	return e.buffer.bytes
}
