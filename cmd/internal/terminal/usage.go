package terminal

import (
	"strings"

	"github.com/alecthomas/kong"
)

// Habits turns what people type out of habit into what the parser knows:
// nothing and "help" ask for help, "help device add" for that of a command, and
// "--version" is "version".
func Habits(args []string) []string {
	switch {
	case len(args) == 0:
		return []string{"--help"}
	case args[0] == "help":
		return append(args[1:len(args):len(args)], "--help")
	case len(args) == 1 && args[0] == "--version":
		return []string{"version"}
	}
	return args
}

// UsageFault is what a failed parse says, in words for who typed it.
func UsageFault(err error) string {
	text := err.Error()
	if flag, _, found := strings.Cut(text, ": expected "); found && strings.HasSuffix(text, `but got "EOL" (<EOL>)`) {
		return flag + " needs a value"
	}
	return text
}

// HelpFor is the command whose help to name after a failed parse, as "mooring
// device add".
func HelpFor(parsed *kong.Context) string {
	if selected := parsed.Selected(); selected != nil {
		return selected.FullPath()
	}
	name := parsed.Model.Name
	for _, step := range parsed.Path {
		if step.Command != nil {
			name = step.Command.FullPath()
		}
	}
	return name
}
