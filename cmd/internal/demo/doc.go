// Package demo runs a whole Mooring: a server on a PostgreSQL of its own, a
// simulated fleet with light faults, and this machine as a device. It ends with
// the verdict on the fleet's ledger and a few SQL queries.
//
// Run owns all goroutines it starts: one each for the fleet and the host device,
// and one that draws the status. It returns when they have ended, the server
// has stopped and its files are removed.
package demo
