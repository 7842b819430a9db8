package wire

import "math"

// Hello decodes a HELLO (PROTOCOL §4.1). The error is a *FrameError.
func (d *Decoder) Hello(frame []byte) (Hello, error) {
	r := d.begin(frame, FrameHello)
	hello := Hello{
		BootID:     uint32(r.optional("boot_id", 0, math.MaxUint32, 0)),
		Heartbeat:  int(r.optional("hb", 0, maxCount, 0)),
		MaxReceive: int(r.optional("max_rx", MinReceive, math.MaxInt32, 0)),
		Model:      r.text("model", MaxName),
		Firmware:   r.text("firmware", MaxName),
	}
	if err := d.finish(); err != nil {
		return Hello{}, err
	}
	return hello, nil
}

// Welcome decodes a WELCOME (PROTOCOL §6.1). The error is a *FrameError.
func (d *Decoder) Welcome(frame []byte) (Welcome, error) {
	r := d.begin(frame, FrameWelcome)
	welcome := Welcome{
		Time:      r.mandatory("time", -maxMillis, maxMillis),
		Session:   r.mandatory("session", 0, MaxSeq),
		Heartbeat: int(r.mandatory("hb", 0, maxCount)),
		MaxFrame:  int(r.mandatory("max_frame", 0, math.MaxInt32)),
		Window:    int(r.mandatory("window", 0, maxCount)),
		Spread:    int(r.mandatory("spread", 0, maxCount)),
	}
	if welcome.HasNext = r.present("next"); welcome.HasNext {
		welcome.Next = uint64(r.number("next", 0, MaxSeq))
	}
	if err := d.finish(); err != nil {
		return Welcome{}, err
	}
	return welcome, nil
}
