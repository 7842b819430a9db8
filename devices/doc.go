// Package devices knows who a device is: the registry of devices, their
// credentials, and the record of who is and was connected. Everything lives in
// Postgres (migrations/00001_devices.sql).
//
// A gateway opens a Registry. Its Authenticate answers from memory when it can
// and gathers what it can't into few queries; OpenSession, Progress and
// EndSession keep the record of sessions, likewise in batches. Operators' tools
// open an Admin, in the same process or another one: what an Admin changes
// reaches every Registry through LISTEN/NOTIFY, and OnRevoked tells the gateway
// whose connections to end.
//
// Commands are rows of mooring.commands. An Admin, or anybody who may insert
// there, queues one; the gateway that holds the device hears of it by NOTIFY,
// marks it as sent, sends it, and records the answer.
//
// Presence is the state of a device's newest session; the table itself keeps
// sessions of a device from overlapping, whoever writes them. FollowPresence
// tells of every change, on its caller's goroutine.
//
// Lifecycle: Open needs a migrated database that can be reached, and starts
// nine goroutines that the Registry owns: lookups of credentials, openings of
// sessions, flushes of their progress and of refused handshakes, the listener,
// the lease, the checks of open sessions, the tidying of old ones, the probe of a
// Postgres that is away, and the dispatch of commands. Close stops them, writes
// what is not yet written, and waits.
// All methods are safe for concurrent use.
package devices
