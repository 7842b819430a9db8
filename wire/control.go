package wire

import "math"

// Result decodes a RESULT (PROTOCOL §4.4). Detail is a copy. The error is a
// *FrameError.
func (d *Decoder) Result(frame []byte) (Result, error) {
	r := d.begin(frame, FrameResult)
	result := Result{
		ID:     r.mandatory("id", 0, MaxSeq),
		Status: ResultStatus(r.mandatory("status", 0, math.MaxUint8)),
		Detail: r.raw("detail"),
	}
	if err := d.finish(); err != nil {
		return Result{}, err
	}
	return result, nil
}

// Ping decodes a PING (PROTOCOL §4.5). The error is a *FrameError.
func (d *Decoder) Ping(frame []byte) (Ping, error) {
	r := d.begin(frame, FramePing)
	ping := Ping{Echo: r.echo("echo")}
	if err := d.finish(); err != nil {
		return Ping{}, err
	}
	return ping, nil
}

// Ack decodes an ACK (PROTOCOL §6.2). The error is a *FrameError.
func (d *Decoder) Ack(frame []byte) (Ack, error) {
	r := d.begin(frame, FrameAck)
	ack := Ack{
		Next:     uint64(r.mandatory("next", 0, MaxSeq)),
		Window:   int(r.mandatory("window", 0, maxCount)),
		Rejected: r.echo("rejected"),
	}
	if r.present("rejects") {
		ack.Rejects = r.rejects()
	}
	if err := d.finish(); err != nil {
		return Ack{}, err
	}
	return ack, nil
}

// rejects reads seq, n, channel, code, flattened.
func (r *reader) rejects() []Reject {
	count, err := r.array()
	if err != nil {
		r.fail("rejects", err)
		return nil
	}
	if count%4 != 0 || count/4 > MaxAckRejects {
		r.fail("rejects", errCount)
		return nil
	}
	// The list's own array stands in for the frame's while it is read.
	outer := r.fields
	r.fields = count
	var list []Reject
	for r.err == nil && r.fields > 0 {
		list = append(list, Reject{
			Seq:     uint64(r.mandatory("rejects.seq", 0, MaxSeq)),
			N:       uint64(r.mandatory("rejects.n", 1, MaxSeq)),
			Channel: int(r.optional("rejects.channel", 0, maxCount, WholeRow)),
			Code:    Code(r.mandatory("rejects.code", 1, math.MaxUint8)),
		})
	}
	r.fields = outer
	return list
}

// Command decodes a COMMAND (PROTOCOL §6.3). Args is a copy. The error is a
// *FrameError.
func (d *Decoder) Command(frame []byte) (Command, error) {
	r := d.begin(frame, FrameCommand)
	command := Command{
		ID:    r.mandatory("id", 0, MaxSeq),
		Name:  r.text("name", MaxName),
		Args:  r.raw("args"),
		TTL:   int(r.optional("ttl", 0, math.MaxInt32, 0)),
		Flags: uint8(r.optional("flags", 0, math.MaxUint8, 0)),
	}
	if r.err == nil && !isName([]byte(command.Name)) {
		r.fail("name", errName)
	}
	if err := d.finish(); err != nil {
		return Command{}, err
	}
	return command, nil
}

// Notice decodes a NOTICE (PROTOCOL §6.4). Of a kind that is not known it
// gives the kind alone, for the device to ignore. The error is a *FrameError.
func (d *Decoder) Notice(frame []byte) (Notice, error) {
	r := d.begin(frame, FrameNotice)
	notice := Notice{Kind: NoticeKind(r.mandatory("kind", 0, math.MaxUint8))}
	switch notice.Kind {
	case NoticeTime:
		notice.Time = r.mandatory("time", -maxMillis, maxMillis)
	case NoticeThrottle:
		notice.MinGapMillis = int(r.mandatory("min_gap_ms", 0, math.MaxInt32))
		notice.ForSeconds = int(r.mandatory("for_s", 0, math.MaxInt32))
	case NoticeGoAway:
		notice.Code = CloseCode(r.mandatory("code", 1000, 4999))
		notice.GraceMillis = int(r.optional("grace_ms", 0, math.MaxInt32, 0))
		notice.MinMillis = int(r.optional("min_ms", 0, math.MaxInt32, 0))
		notice.MaxMillis = int(r.optional("max_ms", 0, math.MaxInt32, 0))
		notice.Text = r.text("text", maxCount)
	case NoticeParams:
		notice.Heartbeat = int(r.optional("hb", 0, maxCount, 0))
		notice.MaxFrame = int(r.optional("max_frame", 0, math.MaxInt32, 0))
		notice.Window = int(r.optional("window", 0, maxCount, 0))
		notice.Spread = int(r.optional("spread", 0, maxCount, 0))
	case NoticeLayoutRejected:
		notice.Layout = uint32(r.mandatory("layout", 0, math.MaxUint32))
		notice.Channel = int(r.optional("channel", 0, maxCount, WholeRow))
		notice.Reason = Code(r.mandatory("code", 1, math.MaxUint8))
	case NoticeNeedLayout:
		notice.Layout = uint32(r.mandatory("layout", 0, math.MaxUint32))
	}
	if err := d.finish(); err != nil {
		return Notice{}, err
	}
	return notice, nil
}

// Pong decodes a PONG (PROTOCOL §6.5). The error is a *FrameError.
func (d *Decoder) Pong(frame []byte) (Pong, error) {
	r := d.begin(frame, FramePong)
	pong := Pong{Echo: r.echo("echo"), Time: r.mandatory("time", -maxMillis, maxMillis)}
	if err := d.finish(); err != nil {
		return Pong{}, err
	}
	return pong, nil
}
