//go:build unix

package ingest

import "syscall"

// canSleep tells whether sockets can be waited on without reading from them.
const canSleep = true

// readable looks whether a read would return at once, with bytes, the end or an
// error, and notes the latter two in broken. It is called before waiting and after.
func (l *link) readable(socket uintptr) bool {
	for {
		n, _, err := syscall.Recvfrom(int(socket), l.peek[:], syscall.MSG_PEEK)
		switch err {
		case syscall.EINTR:
		case syscall.EAGAIN:
			return false
		default:
			l.broken = err != nil || n == 0
			return true
		}
	}
}
