// Package console serves people and their programs: the HTTP API under /api/v1,
// its OpenAPI document, and a page that shows it.
//
// An operation is a Go function whose input and output types are its contract:
// package huma checks input against them, and writes the OpenAPI document from
// them. Who asks is told by a bearer token (mooring user add) or a browser's
// session cookie; every operation states the role that it needs. Errors are
// problem details (RFC 9457). Readings are streamed from the database to the
// client row by row; nothing here holds a whole answer that may be large.
//
// ServeLive is GET /v1/live: it finds out who asks, as the API does, and package
// live does the rest.
//
// New starts nothing. The handler works on its callers' goroutines, and what it
// is given (the registry, the reader) is closed by whoever opened it, after the
// HTTP server has been shut down.
package console
