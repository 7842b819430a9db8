// Package embedded runs a private PostgreSQL cluster for a Mooring server that
// was given no database URL.
//
// # What is where
//
// Everything lives in one data directory:
//
//	lock            held (flock) by the server that uses the directory
//	postgres.json   port and passwords, mode 0600
//	postgres.log    what Postgres says; postgres.log.1 is what it said before
//	cluster/        the Postgres cluster itself, mode 0700
//	cluster.new-*   a cluster whose making was interrupted; removed by the next Start
//
// A cluster is made beside its place and renamed into it, so cluster/ is
// always complete. Nothing in this package ever deletes or overwrites cluster/,
// except when the whole directory was declared to be throwaway.
//
// # Lifecycle
//
// Start returns when Postgres answers, the roles exist and the URLs work. From
// then on one goroutine, the supervisor, owns the Postgres process: it starts
// it again, on the same port, when it dies. A second goroutine waits for the
// exit of the process. Stop ends both, waits for them and for Postgres, and may
// be called any number of times.
//
// Postgres runs in a session of its own, so Ctrl-C on the terminal does not
// reach it, and it outlives a server that was killed; the next Start on the
// data directory finds it and takes it over. Only a throwaway cluster dies with
// the process that started it.
//
// # Users
//
// Postgres refuses to run as root. A server that runs as root runs Postgres as
// the owner of the existing cluster or data directory, else as user postgres, else
// as nobody.
//
// # Concurrency
//
// All methods of Cluster may be called from any goroutine.
package embedded
