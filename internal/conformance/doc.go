// Package conformance holds a server against RFC 6455: a WebSocket client of its
// own, which can do everything wrong, and a table of cases. The sections follow
// those of the Autobahn test suite (1 framing, 2 pings and pongs, 3 reserved bits,
// 4 opcodes, 5 fragmentation, 6 UTF-8, 7 closing, 9 limits), in own words and as
// far as they concern a server that takes binary messages alone.
//
// That suite needs a server that echoes. A Mooring server does not; what a message
// arrived as is seen from its answer. A PING frame (PROTOCOL §4.5) that carries a
// number and any amount of padding is answered with a PONG frame that carries the
// number, but only if the message was put together again byte by byte: otherwise
// its MessagePack is malformed and the connection is closed.
//
// The client runs on its caller's goroutine and owns none.
package conformance
