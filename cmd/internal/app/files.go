package app

import "fmt"

// filesReserve is how many files the server may need besides devices'
// connections: those to PostgreSQL, new ones when these break, listeners,
// whoever asks for metrics.
const filesReserve = 32

// connectionLimit is how many devices may be connected when the process may
// open so many files (0: not known): never so many that none is left for
// PostgreSQL, since then all of them would wait for acks, and none would leave.
// A sixteenth is left for connections that are not devices' yet, see
// unfinishedLimit.
func connectionLimit(wanted, writers, files int) (int, error) {
	if files <= 0 {
		return wanted, nil
	}
	room := files - files/16 - filesReserve - writers
	if room < 1 {
		return 0, fmt.Errorf("this process may open %d files, too few for any device beside PostgreSQL: raise the limit, as with ulimit -n 65536 or LimitNOFILE=", files)
	}
	return min(wanted, room), nil
}

// unfinishedLimit is how many connections may be unfinished when the process may
// open so many files (0: not known).
func unfinishedLimit(wanted Limit, files int) int {
	if files <= 0 {
		return int(wanted)
	}
	room := max(files/16, 1)
	if wanted == NoLimit {
		return room
	}
	return min(int(wanted), room)
}
