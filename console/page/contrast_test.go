package page

import (
	"math"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestContrast: in light and dark, text can be told from what is behind it (WCAG
// 2.2, 1.4.3: 4.5 to 1).
func TestContrast(t *testing.T) {
	t.Parallel()
	style, err := embedded.ReadFile("files/style.css")
	require.NoError(t, err)
	parts := strings.SplitN(string(style), "@media (prefers-color-scheme: dark)", 2)
	require.Len(t, parts, 2)
	light, dark := colours(parts[0]), colours(parts[1])
	require.Len(t, dark, len(light), "each colour has its counterpart")
	for name, scheme := range map[string]map[string]float64{"light": light, "dark": dark} {
		for text, behind := range map[string][]string{
			"ink": {"bg", "surface", "raised", "soft-bg"}, "soft": {"bg", "surface", "raised", "soft-bg"}, "accent": {"bg", "surface", "soft-bg"},
			"accent-ink": {"accent"}, "good": {"surface", "good-bg"}, "warn": {"bg", "surface", "warn-bg"}, "bad": {"bg", "surface", "bad-bg"},
		} {
			for _, ground := range behind {
				require.Contains(t, scheme, text)
				require.Contains(t, scheme, ground)
				a, b := scheme[text]+0.05, scheme[ground]+0.05
				require.GreaterOrEqual(t, max(a, b)/min(a, b), 4.5, "%s: %s on %s", name, text, ground)
			}
		}
	}
}

// colours are the relative luminances of what is written as #rgb or #rrggbb.
func colours(css string) map[string]float64 {
	found := make(map[string]float64)
	for _, match := range regexp.MustCompile(`--([\w-]+): #([0-9a-f]{6}|[0-9a-f]{3});`).FindAllStringSubmatch(css, -1) {
		digits := match[2]
		if len(digits) == 3 {
			digits = string([]byte{digits[0], digits[0], digits[1], digits[1], digits[2], digits[2]})
		}
		luminance := 0.0
		for i, weight := range []float64{0.2126, 0.7152, 0.0722} {
			value, _ := strconv.ParseUint(digits[2*i:2*i+2], 16, 8)
			channel := float64(value) / 255
			if channel <= 0.04045 {
				channel /= 12.92
			} else {
				channel = math.Pow((channel+0.055)/1.055, 2.4)
			}
			luminance += weight * channel
		}
		found[match[1]] = luminance
	}
	return found
}
