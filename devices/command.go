package devices

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"mooring/wire"
)

// CommandState is how far a command is.
type CommandState string

// The states of a command. The last four are final, save that a device may
// still answer a command that expired after it was sent.
const (
	CommandQueued   CommandState = "queued"   // waits for the device
	CommandSent     CommandState = "sent"     // on its way; not answered
	CommandAccepted CommandState = "accepted" // the device is at it; more follows
	CommandDone     CommandState = "done"
	CommandFailed   CommandState = "failed"  // the device tried, or said nothing more
	CommandRefused  CommandState = "refused" // not carried out: by the device, or never sent to it
	CommandExpired  CommandState = "expired" // no answer in time
)

// Ended says whether nothing more is to be expected.
func (s CommandState) Ended() bool {
	switch s {
	case CommandDone, CommandFailed, CommandRefused, CommandExpired:
		return true
	case CommandQueued, CommandSent, CommandAccepted:
	}
	return false
}

// The limits of commands.
const (
	MaxCommandArgs   = 900 // bytes as MessagePack: with its name it must fit a message of 1,023 (PROTOCOL §2.6)
	MaxCommandTTL    = 30 * 24 * time.Hour
	MaxOpenCommands  = 100 // of one device; further ones are refused
	DefaultTTL       = time.Minute
	maxAsker         = 128 // bytes
	maxUnanswered    = 4   // of one device: sent and not yet answered
	answerGrace      = 30 * time.Second
	acceptedFor      = 24 * time.Hour
	commandsAtOnce   = 256  // devices of one statement
	maxResultsQueued = 8192 // answers that wait for Postgres
)

// NewCommand is what a device is to do.
type NewCommand struct {
	Name string          // as in PROTOCOL §4.3
	Args json.RawMessage // one JSON value; nil: none
	// TTL is how long after now it may still be delivered. Defaults to
	// DefaultTTL; whole seconds, up to MaxCommandTTL.
	TTL time.Duration
	// Idempotent commands may reach the device more than once: they are sent
	// again when the connection broke before the answer.
	Idempotent bool
	AskedBy    string // who asks; at most 128 bytes. Defaults to the database's role
}

func (c NewCommand) check() (NewCommand, error) {
	if !wire.IsName(c.Name) {
		return c, &FieldError{"command", "names have 1 to 64 bytes out of A-Z a-z 0-9 _ . - /"}
	}
	if len(c.Args) > 0 {
		value, err := wire.ValueFromJSON(c.Args)
		if err != nil {
			return c, &FieldError{"args", err.Error()}
		}
		if len(value) > MaxCommandArgs {
			return c, &FieldError{"args", fmt.Sprintf("are %d bytes as MessagePack; at most %d are allowed", len(value), MaxCommandArgs)}
		}
	}
	if c.TTL == 0 {
		c.TTL = DefaultTTL
	}
	if c.TTL < time.Second || c.TTL > MaxCommandTTL || c.TTL%time.Second != 0 {
		return c, &FieldError{"ttl", fmt.Sprintf("must be whole seconds from 1 s to %v, not %v", MaxCommandTTL, c.TTL)}
	}
	if len(c.AskedBy) > maxAsker || storable(c.AskedBy) != c.AskedBy {
		return c, &FieldError{"asked by", fmt.Sprintf("must be text of at most %d bytes", maxAsker)}
	}
	return c, nil
}

// Command is a command as the database has it. Times that are zero have not come.
type Command struct {
	ID         int64
	Device     string
	Name       string
	Args       json.RawMessage // nil: none
	State      CommandState
	Idempotent bool
	AskedBy    string
	Created    time.Time
	Expires    time.Time
	Sent       time.Time
	Accepted   time.Time
	Finished   time.Time
	Status     *int            // the device's answer, wire.ResultStatus; nil: none
	Detail     json.RawMessage // what the device said with it; nil: nothing
	Note       string          // what the server has to say of it
}

// CommandStep is one step in the history of a command.
type CommandStep struct {
	At      time.Time
	State   CommandState
	Gateway string
	Session int64 // 0: none
	Status  *int
	Detail  json.RawMessage
	Note    string
}

// Errors that a CommandSender answers with. After any other one the command is
// tried again a little later.
var (
	ErrNotHere  = errors.New("the device is not connected here")
	ErrTooLarge = errors.New("the device takes no message of that size")
)

// CommandSender hands a command to a connected device. It must not block.
type CommandSender func(device int32, command wire.Command) error

// stateOf is the state that a device's answer puts a command in (PROTOCOL §4.4).
func stateOf(status wire.ResultStatus) CommandState {
	switch status {
	case wire.ResultDone:
		return CommandDone
	case wire.ResultAccepted:
		return CommandAccepted
	case wire.ResultExpired:
		return CommandExpired
	case wire.ResultUnknown, wire.ResultBadArgs, wire.ResultBusy, wire.ResultRefused:
		return CommandRefused
	case wire.ResultFailed:
	}
	return CommandFailed
}
