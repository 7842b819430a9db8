package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/user"
	"strconv"
	"time"

	"mooring/cmd/internal/app"
	"mooring/cmd/internal/terminal"
	"mooring/devices"
)

type commandCommands struct {
	Send      commandSendCommand      `cmd:"" help:"Ask a device to do something."`
	Broadcast commandBroadcastCommand `cmd:"" help:"Ask many devices, by model or label, to do something."`
	List      commandListCommand      `cmd:"" help:"List commands, newest first."`
	Show      commandShowCommand      `cmd:"" help:"Show a command and its history."`
}

// commandWords is what all commands to devices have.
type commandWords struct {
	Name string `arg:"" help:"What to do: a name that the device understands, as reboot."`
	Args string `arg:"" optional:"" help:"Arguments, any JSON value: '{\"ms\": 500}'."`

	TTL        time.Duration `name:"ttl" default:"1m" help:"How long it may wait for a device that is away."`
	Idempotent bool          `help:"It may be carried out twice: send it again if the connection breaks before the answer."`
	Wait       bool          `help:"Wait for the end, and fail unless it is done."`
	JSON       bool          `name:"json" help:"As JSON."`
}

func (w *commandWords) command() devices.NewCommand {
	asker := "mooring command"
	if account, err := user.Current(); err == nil {
		asker = account.Username
	}
	return devices.NewCommand{Name: w.Name, Args: json.RawMessage(w.Args), TTL: w.TTL, Idempotent: w.Idempotent, AskedBy: asker}
}

type commandSendCommand struct {
	Device string `arg:"" help:"Name of the device."`
	commandWords
	app.Location
}

// Help gives examples.
func (commandSendCommand) Help() string {
	return `  mooring command send boiler-7 identify --wait
  mooring command send boiler-7 set_interval '{"ms": 500}' --ttl 10m

The command waits in the database until the device is there, at most for --ttl. It is delivered once at most, unless it is --idempotent.`
}

// Run queues the command, and follows it if asked to.
func (c *commandSendCommand) Run(ctx context.Context, out *console) error {
	return withAdmin(ctx, c.Location, func(admin *devices.Admin) error {
		sent, err := admin.SendCommand(ctx, c.Device, c.command())
		if err != nil {
			return err
		}
		return out.follow(ctx, admin, &c.commandWords, []int64{sent.ID})
	})
}

type commandBroadcastCommand struct {
	commandWords
	app.Location

	Model  string            `help:"To devices of this model."`
	Labels map[string]string `name:"label" placeholder:"KEY=VALUE" help:"To devices with this label; can be given several times."`
	All    bool              `help:"To every device."`
}

// Help gives examples.
func (commandBroadcastCommand) Help() string {
	return `  mooring command broadcast --model pump --label site=oslo stop --wait`
}

// Run queues the command for all.
func (c *commandBroadcastCommand) Run(ctx context.Context, out *console) error {
	return withAdmin(ctx, c.Location, func(admin *devices.Admin) error {
		ids, err := admin.Broadcast(ctx, devices.Recipients{All: c.All, Model: c.Model, Labels: c.Labels}, c.command())
		if err != nil {
			return err
		}
		if len(ids) == 0 {
			return &codedError{exitNoDevice, errors.New("no device fits")}
		}
		return out.follow(ctx, admin, &c.commandWords, ids)
	})
}

// follow shows commands as they are or, if asked to wait, how they end.
func (c *console) follow(ctx context.Context, admin *devices.Admin, words *commandWords, ids []int64) error {
	enough := errors.New("enough")
	seen, failed := 0, 0
	var list []commandJSON
	err := admin.WatchCommands(ctx, ids, func(command devices.Command) error {
		last := command.State.Ended() || !words.Wait
		if last {
			seen++
			list = append(list, commandToJSON(command))
		}
		if command.State.Ended() && command.State != devices.CommandDone {
			failed++
		}
		if !words.JSON && (last || len(ids) == 1) {
			fmt.Fprintln(c.stdout, describe(command))
		}
		if seen == len(ids) && !words.Wait {
			return enough
		}
		return nil
	})
	if err != nil && !errors.Is(err, enough) {
		return err
	}
	if words.JSON {
		if err := c.printJSON(list); err != nil {
			return err
		}
	}
	if failed > 0 {
		if len(ids) > 1 {
			fmt.Fprintf(c.stderr, "%d of %d commands came to nothing.\n", failed, len(ids))
		}
		return errShown
	}
	return nil
}

// describe says in a line how far a command is.
func describe(command devices.Command) string {
	line := fmt.Sprintf("%d  %s  %s  %s", command.ID, command.Device, command.Name, command.State)
	if len(command.Detail) > 0 {
		line += "  " + string(command.Detail)
	}
	if command.Note != "" {
		line += "  (" + command.Note + ")"
	}
	return terminal.Plain(line)
}

type commandListCommand struct {
	Device string `arg:"" optional:"" help:"Only of this device."`
	app.Location

	Open  bool `help:"Only those whose end is still to come."`
	Limit int  `default:"100" help:"At most so many, up to 1000."`
	JSON  bool `name:"json" help:"As JSON."`
}

// Run lists commands.
func (c *commandListCommand) Run(ctx context.Context, out *console) error {
	return withAdmin(ctx, c.Location, func(admin *devices.Admin) error {
		list, err := admin.Commands(ctx, devices.CommandFilter{Device: c.Device, Open: c.Open, Limit: c.Limit})
		if err != nil {
			return err
		}
		if c.JSON {
			shown := make([]commandJSON, len(list))
			for i, command := range list {
				shown[i] = commandToJSON(command)
			}
			return out.printJSON(shown)
		}
		if len(list) == 0 {
			fmt.Fprintln(out.stdout, "No command. Send one with: mooring command send DEVICE NAME")
			return nil
		}
		rows := make([][]string, len(list))
		for i, command := range list {
			answer := string(command.Detail)
			if command.Note != "" {
				answer = command.Note
			}
			rows[i] = []string{
				strconv.FormatInt(command.ID, 10), command.Device, command.Name, string(command.State),
				ago(command.Created), command.AskedBy, answer,
			}
		}
		terminal.Table(out.stdout, []string{"number", "device", "command", "state", "asked", "by", "answer"}, rows)
		return nil
	})
}

type commandShowCommand struct {
	Number int64 `arg:"" help:"Number of the command."`
	app.Location

	JSON bool `name:"json" help:"As JSON."`
}

// Run shows a command and its steps.
func (c *commandShowCommand) Run(ctx context.Context, out *console) error {
	return withAdmin(ctx, c.Location, func(admin *devices.Admin) error {
		command, err := admin.Command(ctx, c.Number)
		if err != nil {
			return err
		}
		steps, err := admin.CommandSteps(ctx, c.Number)
		if err != nil {
			return err
		}
		if c.JSON {
			shown := commandToJSON(command)
			for _, step := range steps {
				shown.Steps = append(shown.Steps, stepJSON{
					step.At, step.State, step.Gateway, step.Session, step.Status, step.Detail, step.Note,
				})
			}
			return out.printJSON(shown)
		}
		fmt.Fprintln(out.stdout, describe(command))
		fmt.Fprintf(out.stdout, "asked by %s, good until %s", command.AskedBy, command.Expires.Local().Format(time.DateTime))
		if len(command.Args) > 0 {
			fmt.Fprintf(out.stdout, ", with %s", command.Args)
		}
		fmt.Fprintln(out.stdout)
		rows := make([][]string, len(steps))
		for i, step := range steps {
			rows[i] = []string{step.At.Local().Format("2006-01-02 15:04:05.000"), string(step.State), step.Gateway, string(step.Detail), step.Note}
		}
		terminal.Table(out.stdout, []string{"when", "state", "server", "answer", "note"}, rows)
		return nil
	})
}

// commandJSON is a command as --json shows it.
type commandJSON struct {
	Number     int64                `json:"number"`
	Device     string               `json:"device"`
	Command    string               `json:"command"`
	Args       json.RawMessage      `json:"args,omitempty"`
	State      devices.CommandState `json:"state"`
	Idempotent bool                 `json:"idempotent"`
	AskedBy    string               `json:"asked_by"`
	CreatedAt  time.Time            `json:"created_at"`
	ExpiresAt  time.Time            `json:"expires_at"`
	SentAt     *time.Time           `json:"sent_at"`
	AcceptedAt *time.Time           `json:"accepted_at"`
	FinishedAt *time.Time           `json:"finished_at"`
	Status     *int                 `json:"status"`
	Detail     json.RawMessage      `json:"detail,omitempty"`
	Note       string               `json:"note,omitempty"`
	Steps      []stepJSON           `json:"steps,omitempty"`
}

type stepJSON struct {
	At      time.Time            `json:"at"`
	State   devices.CommandState `json:"state"`
	Gateway string               `json:"gateway,omitempty"`
	Session int64                `json:"session,omitempty"`
	Status  *int                 `json:"status,omitempty"`
	Detail  json.RawMessage      `json:"detail,omitempty"`
	Note    string               `json:"note,omitempty"`
}

func commandToJSON(c devices.Command) commandJSON {
	return commandJSON{
		Number: c.ID, Device: c.Device, Command: c.Name, Args: c.Args, State: c.State, Idempotent: c.Idempotent, AskedBy: c.AskedBy,
		CreatedAt: c.Created, ExpiresAt: c.Expires, SentAt: orNull(c.Sent), AcceptedAt: orNull(c.Accepted), FinishedAt: orNull(c.Finished),
		Status: c.Status, Detail: c.Detail, Note: c.Note,
	}
}
