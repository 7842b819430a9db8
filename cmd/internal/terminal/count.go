package terminal

import "fmt"

// Count is a number of things in words: "1 session", "2 sessions". The plural of the
// noun must be made by an s.
func Count[N int | int64 | uint64](n N, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
