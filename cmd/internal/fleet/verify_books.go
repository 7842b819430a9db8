package fleet

import (
	"fmt"

	"mooring/storage"
)

// books judges the server's own books of a device: they balance, and say as
// many rows as are stored; that what was promised is among these, missing judges.
// If rows came in while samples were read, before and after differ, and only the
// balance is judged.
func (v *verifier) books(boots []*BootRecord, before, after storage.Books, stored int64) {
	v.verdict.Books.Add(after)
	problem := func(format string, args ...any) {
		v.verdict.Unbalanced++
		v.verdict.problem(v.limit, Problem{
			Kind: ProblemBooks, Device: boots[0].Device, Boot: -1, Detail: fmt.Sprintf(format, args...),
		})
	}
	switch {
	case after.Difference != 0:
		problem("a difference of %d: %d received, %d committed, %d duplicate, %d refused, %d returned, %d waiting", after.Difference,
			after.Received, after.Committed, after.Duplicate, after.Refused, after.Returned, after.Waiting)
	case after.Older:
		// They say nothing of the device's first rows.
	case before.Committed == after.Committed && stored != after.Committed:
		problem("%d rows are stored, the books say %d", stored, after.Committed)
	}
}
