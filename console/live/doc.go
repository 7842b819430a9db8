// Package live shows people what happens while it happens: readings once they
// are committed, devices that come and go, commands, refusals and figures of the
// fleet, over WebSocket or Server-Sent Events. docs/LIVE.md is the protocol.
//
// A Hub keeps one table of what is watched, whoever watches it: the newest
// reading of every channel and the presence of every device, each stamped with
// the number of the change that brought it. A viewer is a filter and a number:
// how far it was told. At its own pace it is told what has a greater number. So
// values are conflated by not being queued, a viewer that stands still costs what
// one costs that does not, and to resume is to say that number. Only commands and
// refusals are a sequence; they lie in one ring of bounded size, and who falls
// behind it is told how many it missed.
//
// Nothing here is asked by, or waits for, those who write readings: storage's
// Follower gathers what they commit, and only while somebody watches. Devices
// that other servers hold are read from the database.
//
// # Goroutines
//
// Start starts four: one folds what was committed into the table, one asks the
// database, two follow commands and presence, each on a connection of its own.
// They rest while nobody watches. Each viewer has two, which the Hub owns: one reads, one writes. Stop tells viewers, ends their
// connections, and waits for all.
package live
