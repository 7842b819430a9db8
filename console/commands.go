package console

import (
	"context"
	"encoding/json"
	"net/http"
	"reflect"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"mooring/devices"
)

// Command is a command to a device, and how far it is.
type Command struct {
	Number     int64           `json:"number"`
	Device     string          `json:"device"`
	Name       string          `json:"name"`
	Args       json.RawMessage `json:"args,omitempty" doc:"Any JSON value"`
	State      string          `json:"state" enum:"queued,sent,accepted,done,failed,refused,expired"`
	Idempotent bool            `json:"idempotent"`
	AskedBy    string          `json:"asked_by"`
	CreatedAt  time.Time       `json:"created_at"`
	ExpiresAt  time.Time       `json:"expires_at"`
	SentAt     *time.Time      `json:"sent_at"`
	AcceptedAt *time.Time      `json:"accepted_at"`
	FinishedAt *time.Time      `json:"finished_at"`
	Status     *int            `json:"status" doc:"The device's answer, see PROTOCOL.md, RESULT"`
	Detail     json.RawMessage `json:"detail,omitempty" doc:"What the device said with it, any JSON value"`
	Note       string          `json:"note,omitempty" doc:"What the server has to say of it"`
	Steps      []Step          `json:"steps,omitempty" doc:"Its history, when a single command is shown"`
}

// Step is one step in a command's history.
type Step struct {
	At      time.Time       `json:"at"`
	State   string          `json:"state"`
	Gateway string          `json:"gateway,omitempty"`
	Session int64           `json:"session,omitempty"`
	Status  *int            `json:"status,omitempty"`
	Detail  json.RawMessage `json:"detail,omitempty"`
	Note    string          `json:"note,omitempty"`
}

func toCommand(c devices.Command) Command {
	return Command{
		Number: c.ID, Device: c.Device, Name: c.Name, Args: c.Args, State: string(c.State), Idempotent: c.Idempotent, AskedBy: c.AskedBy,
		CreatedAt: c.Created, ExpiresAt: c.Expires, SentAt: orNull(c.Sent), AcceptedAt: orNull(c.Accepted), FinishedAt: orNull(c.Finished),
		Status: c.Status, Detail: c.Detail, Note: c.Note,
	}
}

// NewCommand is what to do, as a client says it.
type NewCommand struct {
	Name       string `json:"name" minLength:"1" maxLength:"64" pattern:"^[A-Za-z0-9_./-]+$" example:"set_interval"`
	Args       any    `json:"args,omitempty" doc:"Any JSON value"`
	TTL        int64  `json:"ttl_s,omitempty" minimum:"1" maximum:"2592000" default:"60" doc:"Seconds it may wait for a device that is away"`
	Idempotent bool   `json:"idempotent,omitempty" doc:"It may be carried out twice"`
}

func (c *NewCommand) asked(ctx context.Context) (devices.NewCommand, error) {
	command := devices.NewCommand{
		Name: c.Name, TTL: time.Duration(c.TTL) * time.Second, Idempotent: c.Idempotent, AskedBy: userOf(ctx).Name,
	}
	if c.Args == nil {
		return command, nil
	}
	args, err := json.Marshal(c.Args)
	command.Args = args
	return command, err
}

func (a *API) addCommands() {
	const tag = "commands"
	type sendCommandInput struct {
		NamedDevice
		Body NewCommand
	}
	type one struct{ Body Command }
	send := operation(http.MethodPost, "/devices/{name}/commands", "send-command", tag, "Ask a device to do something", devices.RoleOperator)
	send.DefaultStatus = http.StatusAccepted
	huma.Register(a.huma, send, func(ctx context.Context, input *sendCommandInput) (*one, error) {
		asked, err := input.Body.asked(ctx)
		if err != nil {
			return nil, huma.Error422UnprocessableEntity(err.Error())
		}
		command, err := a.cfg.Devices.SendCommand(ctx, input.Name, asked)
		if err != nil {
			return nil, a.explain(ctx, err)
		}
		return &one{toCommand(command)}, nil
	})

	type broadcastCommandInput struct {
		Body struct {
			NewCommand
			All    bool              `json:"all,omitempty" doc:"To every device"`
			Model  string            `json:"model,omitempty" maxLength:"64" doc:"To devices of this model"`
			Labels map[string]string `json:"labels,omitempty" doc:"To devices with all of these labels"`
		}
	}
	type commandNumbers struct {
		Body struct {
			Numbers []int64 `json:"numbers" doc:"Of the commands, one for each device"`
		}
	}
	broadcast := operation(http.MethodPost, "/commands", "broadcast-command", tag, "Ask many devices to do something", devices.RoleOperator)
	broadcast.DefaultStatus = http.StatusAccepted
	huma.Register(a.huma, broadcast, func(ctx context.Context, input *broadcastCommandInput) (*commandNumbers, error) {
		asked, err := input.Body.asked(ctx)
		if err != nil {
			return nil, huma.Error422UnprocessableEntity(err.Error())
		}
		ids, err := a.cfg.Devices.Broadcast(ctx, devices.Recipients{
			All: input.Body.All, Model: input.Body.Model, Labels: input.Body.Labels,
		}, asked)
		if err != nil {
			return nil, a.explain(ctx, err)
		}
		output := new(commandNumbers)
		output.Body.Numbers = append([]int64{}, ids...)
		return output, nil
	})

	type listInput struct {
		Page
		Device string `query:"device" maxLength:"128" doc:"Only of this device"`
		Open   bool   `query:"open" doc:"Only those whose end is still to come"`
	}
	type list struct{ Body []Command }
	huma.Register(a.huma, operation(http.MethodGet, "/commands", "list-commands", tag, "List commands, newest first", devices.RoleViewer),
		func(ctx context.Context, input *listInput) (*list, error) {
			found, err := a.cfg.Devices.Commands(ctx, devices.CommandFilter{
				Device: input.Device, Open: input.Open, Before: input.Before, Limit: input.Limit,
			})
			if err != nil {
				return nil, a.explain(ctx, err)
			}
			return &list{convert(found, toCommand)}, nil
		})

	type numbered struct {
		Number int64 `path:"number" minimum:"1"`
	}
	huma.Register(a.huma, operation(http.MethodGet, "/commands/{number}", "show-command", tag, "Show a command and its history", devices.RoleViewer),
		func(ctx context.Context, input *numbered) (*one, error) {
			found, err := a.cfg.Devices.Command(ctx, input.Number)
			if err != nil {
				return nil, a.explain(ctx, err)
			}
			steps, err := a.cfg.Devices.CommandSteps(ctx, input.Number)
			if err != nil {
				return nil, a.explain(ctx, err)
			}
			command := toCommand(found)
			command.Steps = convert(steps, func(s devices.CommandStep) Step {
				return Step{s.At, string(s.State), s.Gateway, s.Session, s.Status, s.Detail, s.Note}
			})
			return &one{command}, nil
		})
}

func typeOf[T any]() reflect.Type { return reflect.TypeFor[T]() }
