//go:build !unix

package ingest

// canSleep tells whether sockets can be waited on without reading from them.
const canSleep = false

func (l *link) readable(uintptr) bool { return true }
