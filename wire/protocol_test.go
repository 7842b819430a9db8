package wire

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func readProtocol(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../docs/PROTOCOL.md")
	require.NoError(t, err)
	return string(text)
}

// TestProtocolExamplesAreVectors sees that the examples people copy from
// PROTOCOL.md are tested ones.
func TestProtocolExamplesAreVectors(t *testing.T) {
	t.Parallel()
	vectors := map[string]bool{}
	for _, file := range vectorFiles(t) {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		for block := range strings.SplitSeq(string(text), "\n\n") {
			vectors[strings.TrimSpace(block)] = true
		}
	}
	examples := regexp.MustCompile("(?s)```text\n(.*?)\n```").FindAllStringSubmatch(readProtocol(t), -1)
	require.Greater(t, len(examples), 20)
	for _, example := range examples {
		require.True(t, vectors[example[1]], "not in testdata:\n%s", example[1])
	}
}

// TestCitedRulesExist sees that every "PROTOCOL §x.y" in the code stands for a
// section of the text, or for a numbered rule of one.
func TestCitedRulesExist(t *testing.T) {
	t.Parallel()
	rules := map[string]bool{}
	section := ""
	heading := regexp.MustCompile(`^##+ (\d+(?:\.\d+)?) `)
	rule := regexp.MustCompile(`^(?:(\d+)\. |\| (\d+) \| )`)
	for line := range strings.SplitSeq(readProtocol(t), "\n") {
		if found := heading.FindStringSubmatch(line); found != nil {
			section = found[1]
			rules[section] = true
		} else if found := rule.FindStringSubmatch(line); found != nil && section != "" {
			rules[section+"."+found[1]+found[2]] = true
		}
	}
	files, err := filepath.Glob("*.go")
	require.NoError(t, err)
	cited := 0
	for _, file := range append(files, vectorFiles(t)...) {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		for _, found := range regexp.MustCompile(`PROTOCOL(?:\.md)?\s+(?:// )?§(\d+(?:\.\d+)*)(?: and §(\d+(?:\.\d+)*))?`).FindAllStringSubmatch(string(text), -1) {
			for _, number := range found[1:] {
				if number != "" {
					cited++
					require.True(t, rules[number], "%s cites §%s, which PROTOCOL.md does not have", file, number)
				}
			}
		}
	}
	require.Greater(t, cited, 40)
}
