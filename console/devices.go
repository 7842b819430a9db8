package console

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"mooring/devices"
	"mooring/storage"
)

// Device is a device as the API shows it.
type Device struct {
	Name      string         `json:"name" example:"boiler-7"`
	Model     string         `json:"model,omitempty"`
	Labels    map[string]any `json:"labels"`
	State     string         `json:"state" enum:"online,offline,disabled"`
	Online    bool           `json:"online" doc:"Connected to a server that lives"`
	Since     *time.Time     `json:"since" doc:"When online became what it is; null: never connected"`
	Reason    string         `json:"reason" doc:"Why online is what it is, in words"`
	CreatedAt time.Time      `json:"created_at"`
	LastSeen  *time.Time     `json:"last_seen" doc:"null: never connected"`
}

func toDevice(d devices.Listed) Device {
	state := "offline"
	switch {
	case d.Disabled:
		state = "disabled"
	case d.Online:
		state = "online"
	}
	labels := d.Labels
	if labels == nil {
		labels = map[string]any{}
	}
	return Device{d.Name, d.Model, labels, state, d.Online, orNull(d.Since), d.Reason, d.CreatedAt, orNull(d.LastSeen)}
}

// Counts are rows of one session, or of all.
type Counts struct {
	RowsIn        uint64 `json:"rows_in"`
	RowsCommitted uint64 `json:"rows_committed"`
	RowsDuplicate uint64 `json:"rows_duplicate"`
	RowsRejected  uint64 `json:"rows_rejected"`
	RowsLost      uint64 `json:"rows_lost_by_device"`
	RowsWaiting   uint64 `json:"rows_waiting" doc:"Received, and not yet settled"`
	RowsReturned  uint64 `json:"rows_returned" doc:"Received, and not settled when the session ended: the device still has them"`
}

// Session is a connection of a device, open or past.
type Session struct {
	Number       int64      `json:"number"`
	Gateway      string     `json:"gateway" doc:"The server it was made to"`
	Remote       string     `json:"remote"`
	Model        string     `json:"model,omitempty"`
	Firmware     string     `json:"firmware,omitempty"`
	Connected    time.Time  `json:"connected_at"`
	LastSeen     time.Time  `json:"last_seen_at"`
	Disconnected *time.Time `json:"disconnected_at" doc:"null: open"`
	Online       bool       `json:"online" doc:"Open, as far as its server has said"`
	Code         int        `json:"close_code,omitempty"`
	Reason       string     `json:"reason,omitempty" doc:"Why it ended, in words"`
	Counts       Counts     `json:"counts"`
}

func toSession(s devices.SessionRow) Session {
	open, reason := s.Disconnected.IsZero(), s.Reason
	switch {
	case open || reason != "":
	case s.Code != 0:
		reason = fmt.Sprintf("closed with %d %s", s.Code, s.Code)
	default:
		reason = "it ended without anybody seeing it"
	}
	return Session{
		s.ID, s.Gateway, s.Remote, s.Model, s.Firmware, s.Connected, s.LastSeen, orNull(s.Disconnected), open, int(s.Code), reason, Counts(s.Counts),
	}
}

// DeviceDetail is all that is known of a device.
type DeviceDetail struct {
	Device
	Sessions int64    `json:"sessions" doc:"How many there were"`
	Totals   Counts   `json:"totals"`
	Last     *Session `json:"last_session,omitempty" doc:"absent: it never connected"`
	Tokens   []Token  `json:"tokens"`
}

// Token is what is known of a token; the token itself is not.
type Token struct {
	Number    int64      `json:"number"`
	Label     string     `json:"label,omitempty"`
	CreatedAt time.Time  `json:"created_at"`
	ExpiresAt *time.Time `json:"expires_at"`
	RevokedAt *time.Time `json:"revoked_at"`
	Live      bool       `json:"live"`
}

// NamedDevice is the device in a path.
type NamedDevice struct {
	Name string `path:"name" maxLength:"128" doc:"Name of the device"`
}

// Page is how lists are read that go back in time.
type Page struct {
	Before int64 `query:"before" minimum:"0" doc:"Only those with a smaller number: the last one of the page before"`
	Limit  int   `query:"limit" minimum:"1" maximum:"1000" default:"100"`
}

type secretDevice struct {
	Body struct {
		Name  string `json:"name"`
		Token string `json:"token" doc:"Shown this once; only its hash is stored"`
	}
}

func (a *API) addDevices() {
	const tag = "devices"
	type listInput struct {
		Prefix string   `query:"prefix" maxLength:"128" doc:"Only names that begin with it"`
		State  string   `query:"state" enum:"online,offline,disabled" doc:"Only those in this state"`
		Model  string   `query:"model" maxLength:"64" doc:"Only of this model, as registered"`
		Labels []string `query:"label,explode" maxItems:"20" doc:"key=value: only with all of these labels"`
		After  string   `query:"after" maxLength:"128" doc:"Only names after this one: the last one of the page before"`
		Limit  int      `query:"limit" minimum:"1" maximum:"10000" default:"100"`
	}
	type list struct{ Body []Device }
	huma.Register(a.huma, operation(http.MethodGet, "/devices", "list-devices", tag, "List devices by name", devices.RoleViewer),
		func(ctx context.Context, input *listInput) (*list, error) {
			filter := devices.Filter{Prefix: input.Prefix, Model: input.Model, After: input.After, Limit: input.Limit}
			yes, no := true, false
			switch input.State {
			case "online":
				filter.Online, filter.Disabled = &yes, &no
			case "offline":
				filter.Online, filter.Disabled = &no, &no
			case "disabled":
				filter.Disabled = &yes
			}
			var err error
			if filter.Labels, err = labelsOf(input.Labels); err != nil {
				return nil, err
			}
			found, err := a.cfg.Devices.List(ctx, filter)
			if err != nil {
				return nil, a.explain(ctx, err)
			}
			return &list{convert(found, toDevice)}, nil
		})

	type addDeviceInput struct {
		Body struct {
			Name     string            `json:"name" minLength:"1" maxLength:"128"`
			Model    string            `json:"model,omitempty" maxLength:"64"`
			Labels   map[string]string `json:"labels,omitempty"`
			Lifetime int64             `json:"token_lifetime_s,omitempty" minimum:"0" maximum:"3153600000" doc:"Seconds the token is good for; 0: until it is revoked"`
		}
	}
	add := operation(http.MethodPost, "/devices", "add-device", tag, "Add a device, and get its token", devices.RoleOperator)
	add.DefaultStatus = http.StatusCreated
	huma.Register(a.huma, add, func(ctx context.Context, input *addDeviceInput) (*secretDevice, error) {
		device, token, err := a.cfg.Devices.Add(ctx, devices.NewDevice{
			Name: input.Body.Name, Model: input.Body.Model, Labels: input.Body.Labels,
			TokenLifetime: time.Duration(input.Body.Lifetime) * time.Second,
		})
		if err != nil {
			return nil, a.explain(ctx, err)
		}
		output := new(secretDevice)
		output.Body.Name, output.Body.Token = device.Name, token
		return output, nil
	})

	type detail struct{ Body DeviceDetail }
	show := func(ctx context.Context, name string) (*detail, error) {
		d, err := a.cfg.Devices.Show(ctx, name)
		if err != nil {
			return nil, a.explain(ctx, err)
		}
		output := &detail{DeviceDetail{Device: toDevice(d.Listed), Sessions: d.Sessions, Totals: Counts(d.Totals)}}
		if d.Last != nil {
			last := toSession(*d.Last)
			output.Body.Last = &last
		}
		output.Body.Tokens = convert(d.Tokens, func(t devices.TokenInfo) Token {
			return Token{t.ID, t.Label, t.CreatedAt, orNull(t.ExpiresAt), orNull(t.RevokedAt), t.Live}
		})
		return output, nil
	}
	huma.Register(a.huma, operation(http.MethodGet, "/devices/{name}", "show-device", tag, "Show all about a device", devices.RoleViewer),
		func(ctx context.Context, input *NamedDevice) (*detail, error) { return show(ctx, input.Name) })

	type changeDeviceInput struct {
		NamedDevice
		Body struct {
			Model    *string           `json:"model,omitempty" maxLength:"64"`
			Labels   map[string]string `json:"labels,omitempty" doc:"Replaces all labels"`
			Disabled *bool             `json:"disabled,omitempty" doc:"A disabled device is kept out, at once; its readings stay"`
		}
	}
	huma.Register(a.huma, operation(http.MethodPatch, "/devices/{name}", "change-device", tag, "Change model or labels, disable, enable", devices.RoleOperator),
		func(ctx context.Context, input *changeDeviceInput) (*detail, error) {
			err := a.cfg.Devices.Describe(ctx, input.Name, devices.Change{Model: input.Body.Model, Labels: input.Body.Labels})
			if disabled := input.Body.Disabled; err == nil && disabled != nil {
				if *disabled {
					err = a.cfg.Devices.Disable(ctx, input.Name)
				} else {
					err = a.cfg.Devices.Enable(ctx, input.Name)
				}
			}
			if err != nil {
				return nil, a.explain(ctx, err)
			}
			return show(ctx, input.Name)
		})

	type rotateTokenInput struct {
		NamedDevice
		Body struct {
			Now      bool   `json:"now,omitempty" doc:"Revoke older tokens at once, which ends a session that uses one"`
			Grace    int64  `json:"grace_s,omitempty" minimum:"0" maximum:"31536000" doc:"Seconds the older token stays good; 0: a day"`
			Lifetime int64  `json:"lifetime_s,omitempty" minimum:"0" maximum:"3153600000" doc:"Seconds the new one is good for; 0: until it is revoked"`
			Label    string `json:"label,omitempty" maxLength:"64"`
		}
	}
	huma.Register(a.huma, operation(http.MethodPost, "/devices/{name}/rotate", "rotate-token", tag, "Give a device a new token", devices.RoleOperator),
		func(ctx context.Context, input *rotateTokenInput) (*secretDevice, error) {
			device, token, err := a.cfg.Devices.Rotate(ctx, input.Name, devices.Rotation{
				Now: input.Body.Now, Label: input.Body.Label,
				Grace: time.Duration(input.Body.Grace) * time.Second, Lifetime: time.Duration(input.Body.Lifetime) * time.Second,
			})
			if err != nil {
				return nil, a.explain(ctx, err)
			}
			output := new(secretDevice)
			output.Body.Name, output.Body.Token = device.Name, token
			return output, nil
		})

	type removeInput struct {
		NamedDevice
		Purge bool `query:"purge" doc:"Delete its readings too, for good"`
	}
	remove := operation(http.MethodDelete, "/devices/{name}", "remove-device", tag, "Remove a device", devices.RoleAdmin)
	remove.Description += " A device of which readings are stored is removed only with purge."
	huma.Register(a.huma, remove, func(ctx context.Context, input *removeInput) (*struct{}, error) {
		return nil, a.explain(ctx, a.cfg.Devices.Remove(ctx, input.Name, input.Purge))
	})
	a.addDeviceLists(tag)
}

// addDeviceLists adds what there is a list of for every device.
func (a *API) addDeviceLists(tag string) {
	type pageInput struct {
		NamedDevice
		Page
	}
	type sessions struct{ Body []Session }
	huma.Register(a.huma, operation(http.MethodGet, "/devices/{name}/sessions", "list-sessions", tag, "List connections, newest first", devices.RoleViewer),
		func(ctx context.Context, input *pageInput) (*sessions, error) {
			found, err := a.cfg.Devices.Sessions(ctx, input.Name, input.Before, input.Limit)
			if err != nil {
				return nil, a.explain(ctx, err)
			}
			return &sessions{convert(found, toSession)}, nil
		})

	type layouts struct{ Body []Layout }
	huma.Register(a.huma, operation(http.MethodGet, "/devices/{name}/layouts", "list-layouts", tag, "List the layouts that a device uses", devices.RoleViewer),
		func(ctx context.Context, input *NamedDevice) (*layouts, error) {
			if err := a.mustExist(ctx, input.Name); err != nil {
				return nil, err
			}
			found, err := a.cfg.Reader.Layouts(ctx, input.Name)
			if err != nil {
				return nil, a.explain(ctx, err)
			}
			return &layouts{convert(found, toLayout)}, nil
		})

	type rejects struct{ Body []Reject }
	huma.Register(a.huma, operation(http.MethodGet, "/devices/{name}/rejects", "list-rejects", tag, "List what was refused, newest first", devices.RoleViewer),
		func(ctx context.Context, input *pageInput) (*rejects, error) {
			if err := a.mustExist(ctx, input.Name); err != nil {
				return nil, err
			}
			found, err := a.cfg.Reader.RecentRejects(ctx, input.Name, input.Before, input.Limit)
			if err != nil {
				return nil, a.explain(ctx, err)
			}
			return &rejects{convert(found, func(r storage.NumberedReject) Reject {
				return Reject{r.ID, r.At, r.Seq, r.N, r.Channel, r.Code, r.Detail}
			})}, nil
		})
}

// mustExist tells an unknown device from one of which nothing is stored.
func (a *API) mustExist(ctx context.Context, name string) error {
	_, err := a.cfg.Devices.Show(ctx, name)
	return a.explain(ctx, err)
}

// Layout is a list of channels.
type Layout struct {
	Name      string    `json:"name"`
	FirstSeen time.Time `json:"first_seen"`
	Channels  []Channel `json:"channels"`
}

// Channel is one of a layout's.
type Channel struct {
	Name string `json:"name"`
	Unit string `json:"unit,omitempty"`
	Kind string `json:"kind" enum:"number,bool,text"`
}

func toLayout(l storage.DeviceLayout) Layout {
	return Layout{l.Name, l.FirstSeen, convert(l.Channels, func(c storage.LayoutChannel) Channel { return Channel(c) })}
}

// Reject is a refusal.
type Reject struct {
	Number  int64     `json:"number"`
	At      time.Time `json:"at"`
	Seq     int64     `json:"seq" doc:"The first of the rows refused"`
	N       int64     `json:"n" doc:"Rows; refusals if the code is NOT_RECORDED"`
	Channel string    `json:"channel,omitempty" doc:"Whose value was refused; absent: the rows themselves"`
	Code    string    `json:"code"`
	Detail  string    `json:"detail"`
}

// labelsOf reads key=value pairs.
func labelsOf(pairs []string) (map[string]string, error) {
	labels := make(map[string]string, len(pairs))
	for _, pair := range pairs {
		key, value, ok := strings.Cut(pair, "=")
		if !ok {
			return nil, huma.Error422UnprocessableEntity("label: must be like key=value", &huma.ErrorDetail{
				Message: "must be like key=value", Location: "query.label", Value: pair,
			})
		}
		labels[key] = value
	}
	return labels, nil
}
