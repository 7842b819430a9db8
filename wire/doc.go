// Package wire is the codec of the mooring.v1 protocol, whose normative text is
// docs/PROTOCOL.md. Server, client and fleet share it.
//
// It is pure: no I/O, no clock, no logging, no goroutines. A Decoder or Encoder
// is reusable and not safe for concurrent use.
package wire
