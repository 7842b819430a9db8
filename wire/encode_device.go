package wire

// Hello encodes a HELLO (PROTOCOL §4.1).
func (e *Encoder) Hello(hello Hello) []byte {
	count := lastPresent(hello.BootID != 0, hello.Heartbeat != 0, hello.MaxReceive != 0,
		hello.Model != "", hello.Firmware != "")
	e.begin(FrameHello, count)
	for i := range count {
		switch i {
		case 0:
			e.optional(int64(hello.BootID))
		case 1:
			e.optional(int64(hello.Heartbeat))
		case 2:
			e.optional(int64(hello.MaxReceive))
		case 3:
			e.optionalString(hello.Model)
		default:
			e.optionalString(hello.Firmware)
		}
	}
	return e.buffer.bytes
}

// Layout encodes a LAYOUT (PROTOCOL §4.2).
func (e *Encoder) Layout(layout *Layout) []byte {
	e.begin(FrameLayout, 3)
	e.uint(uint64(layout.Number))
	e.optionalString(layout.Name)
	e.array(len(layout.Channels))
	for i := range layout.Channels {
		channel := &layout.Channels[i]
		count := lastPresent(true, channel.Unit != "", channel.Kind != KindNumber, channel.Exp10 != 0)
		e.array(count)
		e.string(channel.Name)
		if count > 1 {
			e.optionalString(channel.Unit)
		}
		if count > 2 {
			e.int(int64(channel.Kind))
		}
		if count > 3 {
			e.int(int64(channel.Exp10))
		}
	}
	return e.buffer.bytes
}

// Result encodes a RESULT (PROTOCOL §4.4). Detail is written as it stands.
func (e *Encoder) Result(result Result) []byte {
	count := 2 + lastPresent(len(result.Detail) > 0)
	e.begin(FrameResult, count)
	e.int(result.ID)
	e.uint(uint64(result.Status))
	if count > 2 {
		e.raw(result.Detail)
	}
	return e.buffer.bytes
}

// Ping encodes a PING (PROTOCOL §4.5).
func (e *Encoder) Ping(ping Ping) []byte {
	e.begin(FramePing, 1)
	e.uint(ping.Echo)
	return e.buffer.bytes
}
