// Package door decides who may come in before anybody knows who it is: how many
// handshakes a second, in all and of one address; how many connections may be
// unfinished, which means that they have not brought their first frame; and how
// many wrong credentials one address may try. It also finds out which address a
// request that came through a proxy is really from.
//
// A Door has no goroutines and does no I/O, save that it closes connections that
// it was handed; its clock is the caller's. Everything it remembers is bounded:
// addresses by Config.Addresses, the least recently seen of which is forgotten,
// and unfinished connections by Config.Unfinished. All methods may be called
// from any goroutine.
//
// Addresses of IPv6 count by their /64, which is what one customer or one
// machine has; to change an address within it costs nothing.
package door
