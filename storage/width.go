package storage

import "time"

func (w PartitionWidth) valid() bool {
	switch w {
	case PartitionHour, PartitionDay, PartitionWeek, PartitionMonth:
		return true
	}
	return false
}

// floor is the begin of the partition that at falls into, in UTC.
func (w PartitionWidth) floor(at time.Time) time.Time {
	at = at.UTC()
	year, month, day := at.Date()
	switch w {
	case PartitionHour:
		return at.Truncate(time.Hour)
	case PartitionWeek:
		return time.Date(year, month, day-(int(at.Weekday())+6)%7, 0, 0, 0, 0, time.UTC)
	case PartitionMonth:
		return time.Date(year, month, 1, 0, 0, 0, 0, time.UTC)
	case PartitionDay:
	}
	return time.Date(year, month, day, 0, 0, 0, 0, time.UTC)
}

// next is the end of the partition that begins at begin.
func (w PartitionWidth) next(begin time.Time) time.Time {
	switch w {
	case PartitionHour:
		return begin.Add(time.Hour)
	case PartitionWeek:
		return begin.AddDate(0, 0, 7)
	case PartitionMonth:
		return begin.AddDate(0, 1, 0)
	case PartitionDay:
	}
	return begin.AddDate(0, 0, 1)
}

// Late rows are few for their time, and every partition costs each query
// planning time: what is created after the fact is wider the older it is.
const (
	coarseDay   = 3 * 24 * time.Hour
	coarseMonth = 62 * 24 * time.Hour
)

// at is the width of a partition that is created for rows of that age.
func (w PartitionWidth) at(age time.Duration) PartitionWidth {
	switch {
	case age > coarseMonth:
		return PartitionMonth
	case age > coarseDay && w == PartitionHour:
		return PartitionDay
	}
	return w
}

// span is a stretch of time, its end excluded.
type span struct{ from, to time.Time }

func (s span) contains(at time.Time) bool { return !at.Before(s.from) && at.Before(s.to) }

// fit is the span of a new partition for at: as wide as width says, cut where
// existing partitions, perhaps of another width, begin and end. ok is false if
// at is covered already.
func fit(at time.Time, width PartitionWidth, existing []span) (_ span, ok bool) {
	begin := width.floor(at)
	wanted := span{begin, width.next(begin)}
	for _, other := range existing {
		switch {
		case other.contains(at):
			return span{}, false
		case !other.to.After(at):
			if other.to.After(wanted.from) {
				wanted.from = other.to
			}
		case other.from.Before(wanted.to):
			wanted.to = other.from
		}
	}
	return wanted, true
}

// partitionName is the begin of the span in the shortest form that says it.
func partitionName(s span) string {
	switch {
	case s.from.Nanosecond() != 0:
		return "samples_" + s.from.Format("20060102t150405") + s.from.Format("_000000")[1:]
	case s.from.Second() != 0 || s.from.Minute() != 0:
		return "samples_" + s.from.Format("20060102t150405")
	case s.from.Hour() != 0 || s.to.Sub(s.from) == time.Hour:
		return "samples_" + s.from.Format("20060102t15")
	}
	return "samples_" + s.from.Format("20060102")
}
