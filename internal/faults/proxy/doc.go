// Package proxy breaks connections on purpose: a TCP proxy between devices and a
// server, whose faults are placed to the byte.
//
// For each connection a Plan, chosen from a seed, says what happens to it and
// where: after so many bytes, in the middle of the m-th WebSocket frame, before
// or after the handshake's request or answer. What can happen: delays, bytes one
// at a time, a close, a reset, one direction that leads nowhere, a peer that
// vanishes without a word, and bytes that are held back until the same device
// has connected again.
//
// Each connection has four goroutines, two a direction, one to accept them all;
// Close ends and waits for them. A direction holds at most 64 pieces of 16 KiB,
// and 1 MiB while it holds bytes back; when that is full nothing more is read,
// and the sender waits as TCP makes it.
package proxy
