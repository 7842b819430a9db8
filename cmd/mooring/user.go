package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"mooring/cmd/internal/app"
	"mooring/cmd/internal/terminal"
	"mooring/devices"
)

type userCommands struct {
	Add    userAddCommand    `cmd:"" help:"Add a user and print its token."`
	List   userListCommand   `cmd:"" help:"List users."`
	Rotate userRotateCommand `cmd:"" help:"Give a user a new token; everything older ends at once."`
	Link   userLinkCommand   `cmd:"" help:"Make a link that opens the console in a browser, logged in, once."`
	Remove userRemoveCommand `cmd:"" help:"Remove a user; its token ends at once."`
}

// userError gives errors about users exit codes.
func userError(err error) error {
	switch {
	case errors.Is(err, devices.ErrUserExists):
		return &codedError{exitExists, err}
	case errors.Is(err, devices.ErrNoUser):
		return &codedError{exitNoDevice, fmt.Errorf("%w.\nmooring user list shows those there are", trimDot(err))}
	}
	return err
}

type userAddCommand struct {
	Name string `arg:"" help:"Name of the user, a person or a program."`
	app.Location

	Role devices.Role `enum:"viewer,operator,admin" default:"viewer" help:"viewer looks, operator also commands and changes devices, admin also removes them and changes users."`
	JSON bool         `name:"json" help:"As JSON."`
}

// Help gives an example.
func (userAddCommand) Help() string {
	return `  TOKEN=$(mooring user add ann --role operator)
  curl -H "Authorization: Bearer $TOKEN" http://127.0.0.1:8080/api/v1/devices

The token is shown this once; only its hash is stored.`
}

// Run adds the user.
func (u *userAddCommand) Run(ctx context.Context, out *console) error {
	return withAdmin(ctx, u.Location, func(admin *devices.Admin) error {
		user, token, err := admin.AddUser(ctx, u.Name, u.Role)
		if err != nil {
			return userError(err)
		}
		return out.userToken(u.JSON, user.Name, token)
	})
}

// userToken prints the token alone on stdout, so that a shell can keep it.
func (c *console) userToken(asJSON bool, name, token string) error {
	if asJSON {
		return c.printJSON(map[string]string{"name": name, "token": token})
	}
	fmt.Fprintf(c.stderr, "The token of %s; it can't be shown again:\n", name)
	fmt.Fprintln(c.stdout, token)
	return nil
}

type userListCommand struct {
	app.Location

	JSON bool `name:"json" help:"As JSON."`
}

// Run lists the users.
func (u *userListCommand) Run(ctx context.Context, out *console) error {
	return withAdmin(ctx, u.Location, func(admin *devices.Admin) error {
		users, err := admin.Users(ctx)
		if err != nil {
			return err
		}
		if u.JSON {
			type shown struct {
				Name      string       `json:"name"`
				Role      devices.Role `json:"role"`
				CreatedAt time.Time    `json:"created_at"`
			}
			list := make([]shown, len(users))
			for i, user := range users {
				list[i] = shown{user.Name, user.Role, user.CreatedAt}
			}
			return out.printJSON(list)
		}
		if len(users) == 0 {
			fmt.Fprintln(out.stdout, "No user. Add one with: mooring user add NAME")
			return nil
		}
		rows := make([][]string, len(users))
		for i, user := range users {
			rows[i] = []string{user.Name, string(user.Role), ago(user.CreatedAt)}
		}
		terminal.Table(out.stdout, []string{"user", "role", "added"}, rows)
		return nil
	})
}

type userRotateCommand struct {
	Name string `arg:"" help:"Name of the user."`
	app.Location

	JSON bool `name:"json" help:"As JSON."`
}

// Run gives the user a new token.
func (u *userRotateCommand) Run(ctx context.Context, out *console) error {
	return withAdmin(ctx, u.Location, func(admin *devices.Admin) error {
		token, err := admin.RotateUser(ctx, u.Name)
		if err != nil {
			return userError(err)
		}
		return out.userToken(u.JSON, u.Name, token)
	})
}

type userRemoveCommand struct {
	Name string `arg:"" help:"Name of the user."`
	app.Location

	JSON bool `name:"json" help:"As JSON."`
}

// Run removes the user.
func (u *userRemoveCommand) Run(ctx context.Context, out *console) error {
	return withAdmin(ctx, u.Location, func(admin *devices.Admin) error {
		if err := admin.RemoveUser(ctx, u.Name); err != nil {
			return userError(err)
		}
		return out.changed(u.JSON, u.Name, "removed", "User %s is removed.")
	})
}
