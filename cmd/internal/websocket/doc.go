// Package websocket reads and writes the frames of RFC 6455 one by one, for programs
// that must send what a library would refuse, or see what it would hide: reserved
// bits, masks, fragments. It keeps no state and starts nothing.
package websocket
