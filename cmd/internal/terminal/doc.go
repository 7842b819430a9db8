// Package terminal is how the command lines talk to people: what they type out of
// habit, what is wrong with it, tables, and a status that is redrawn in place on
// a terminal and written as plain lines elsewhere.
//
// Nothing here starts a goroutine. Live is safe for concurrent use; it is an
// io.Writer too, so that log lines appear above the status and don't tear it.
package terminal
