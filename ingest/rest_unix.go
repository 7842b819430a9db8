//go:build unix

package ingest

import "syscall"

// canSleep tells whether sockets can be waited on without reading from them.
const canSleep = true

// readable looks whether a read would return at once, with bytes, the end or an
// error. It is called before waiting and after.
func (l *link) readable(socket uintptr) bool {
	for {
		_, _, err := syscall.Recvfrom(int(socket), l.peek[:], syscall.MSG_PEEK)
		if err != syscall.EINTR {
			return err != syscall.EAGAIN
		}
	}
}
