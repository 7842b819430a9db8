package terminal

import (
	"fmt"
	"strings"
	"unicode"
)

// Plain makes control characters of a text visible, line feeds and tabs aside. What
// others wrote, as the model of a device, is shown by this: on a terminal it could
// else clear the screen, or forge what stands there.
func Plain(text string) string {
	var plain strings.Builder
	for _, r := range text { // a byte that is no UTF-8 is U+FFFD
		if unicode.IsControl(r) && r != '\n' && r != '\t' {
			fmt.Fprintf(&plain, `\x%02x`, r)
			continue
		}
		plain.WriteRune(r)
	}
	return plain.String()
}
