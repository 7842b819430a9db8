package live

import (
	"fmt"
	"strconv"
	"strings"
)

// cursor is how far a viewer was told: of one run of one server, with one filter.
type cursor struct {
	epoch  string
	hash   uint32
	change uint64
	event  uint64
}

func (c cursor) append(dst []byte) []byte {
	return fmt.Appendf(dst, "%s.%x.%d.%d", c.epoch, c.hash, c.change, c.event)
}

// parseCursor reads a cursor; what is none, as one of another program is, is a
// cursor of nobody.
func parseCursor(text string) (c cursor, ok bool) {
	parts := strings.Split(text, ".")
	if len(parts) != 4 || len(text) > 100 {
		return c, false
	}
	hash, err1 := strconv.ParseUint(parts[1], 16, 32)
	change, err2 := strconv.ParseUint(parts[2], 10, 64)
	event, err3 := strconv.ParseUint(parts[3], 10, 64)
	if err1 != nil || err2 != nil || err3 != nil {
		return c, false
	}
	return cursor{parts[0], uint32(hash), change, event}, true
}
