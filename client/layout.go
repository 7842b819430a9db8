package client

import (
	"fmt"

	"mooring/wire"
)

// LayoutSizeError says that a layout can't be declared: its LAYOUT frame is
// larger than the server takes. Shorter names, or two layouts, help.
type LayoutSizeError struct {
	Name  string
	Size  int // bytes of the frame
	Limit int // max_frame, bytes
}

func (e *LayoutSizeError) Error() string {
	return fmt.Sprintf("client: layout %q takes a frame of %d bytes, more than max_frame, which is %d", e.Name, e.Size, e.Limit)
}

// tooLarge is a *LayoutSizeError if the layout fits into no frame: of this
// server, once that has said its limit, or of any. mu is held.
func (c *Client) tooLarge(state *layoutState) error {
	limit := wire.MaxFrameBytes
	if c.limited {
		limit = c.maxFrame
	}
	if state.size > limit {
		return &LayoutSizeError{Name: state.layout.Name, Size: state.size, Limit: limit}
	}
	return nil
}
