// Package bench measures how close the server comes to what the database and
// the sockets allow, each figure beside its ceiling or floor of the same run.
//
// Run starts a private PostgreSQL, durable and thrown away afterwards. The
// server under test, and the bare WebSocket server it is held against, are
// processes of their own (the same binary, see Child), so that the operating
// system accounts for gateway, PostgreSQL and load generator apart. Figures of
// processor time come from /proc: Linux only.
//
// # Goroutines
//
// Run owns all it starts and returns when they have ended: one for each
// simulated device, some pacers, and one for each COPY connection. Child
// processes end with their standard input, however this process ends.
package bench
