// Package migrations holds the numbered SQL that makes and changes Mooring's
// schema in Postgres, and applies it.
//
// The files are embedded and applied in order by goose, each in a transaction
// of its own, under a session advisory lock: any number of servers may start at
// once, one migrates and the others wait. What was applied is recorded in
// mooring.schema_migrations. Migrations go up only; an older program refuses to
// work on a newer schema.
//
// The package starts no goroutine and keeps no connection: every function opens
// its own and closes it before it returns.
package migrations
