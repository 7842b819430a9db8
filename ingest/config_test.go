package ingest

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestTimeRangeTakesTheLaterBound(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)
	date := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	const month = 30 * 24 * time.Hour
	for name, c := range map[string]struct {
		config Config
		oldest time.Time
	}{
		"default":          {Config{}, now.Add(-365 * 24 * time.Hour)},
		"age":              {Config{OldestAge: month}, now.Add(-month)},
		"date":             {Config{Oldest: date}, date},
		"date, age before": {Config{Oldest: now.Add(-time.Hour), OldestAge: month}, now.Add(-time.Hour)},
		"date, age after":  {Config{Oldest: date, OldestAge: month}, now.Add(-month)},
	} {
		config := c.config.withDefaults()
		oldest, newest := config.timeRange(now)
		require.Equal(t, c.oldest.UnixMicro(), oldest, name)
		require.Equal(t, now.Add(10*time.Minute).UnixMicro(), newest, name)
	}
}
