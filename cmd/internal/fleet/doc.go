// Package fleet simulates a fleet of devices that measure, break and come back,
// keeps a ledger of what the server promised them, and compares the ledger with
// what the database holds.
//
// Every row is a pure function of the ledger's header and its boot line: see
// Boot. So the ledger holds no rows, the run's memory does not grow with them,
// and Verify computes each again to compare it.
//
// # Goroutines
//
// Run owns all it starts and returns when they have ended: two for each device
// (client.Client.Run and its reader), a few producers that give all devices
// their rows in turn, one that writes the ledger, and with faults a few that
// misbehave over raw sockets. Verify and Replay start none that outlive them.
package fleet
