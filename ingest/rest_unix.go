//go:build unix

package ingest

import "syscall"

// canSleep tells whether sockets can be waited on without a buffer.
const canSleep = true

// receive reads what has come in at rest, as far as there is room for it, and
// tells whether that ends the rest; it notes in broken that the line has ended.
// It is called before waiting and after.
func (l *link) receive(socket uintptr) (wake bool) {
	for {
		n, err := syscall.Read(int(socket), l.first[:])
		switch {
		case err == syscall.EINTR:
		case err == syscall.EAGAIN:
			return false
		case err != nil || n == 0:
			l.broken = true
			return true
		case l.arrived(n):
			return true
		}
	}
}

// readNow reads what has come in.
func readNow(socket uintptr, p []byte) int {
	for {
		n, err := syscall.Read(int(socket), p)
		if err != syscall.EINTR {
			return max(n, 0)
		}
	}
}

// writeNow writes what fits into the socket now.
func writeNow(socket uintptr, p []byte) int {
	for {
		n, err := syscall.Write(int(socket), p)
		if err != syscall.EINTR {
			return max(n, 0)
		}
	}
}
