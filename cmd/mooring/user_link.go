package main

import (
	"context"
	"fmt"
	"net/url"
	"strings"

	"mooring/cmd/internal/app"
	"mooring/console/page"
	"mooring/devices"
)

type userLinkCommand struct {
	Name string `arg:"" help:"Name of the user."`
	app.Location

	Server string `default:"http://127.0.0.1:8080" placeholder:"URL" help:"The server as the browser reaches it. Default: ${default}."`
	JSON   bool   `name:"json" help:"As JSON."`
}

// Help gives an example.
func (userLinkCommand) Help() string {
	return `  mooring user link ann --server https://mooring.example.org

Whoever opens the link is that user: it works once, within ten minutes.`
}

// Run makes a link that opens the console.
func (u *userLinkCommand) Run(ctx context.Context, out *console) error {
	server, err := url.Parse(u.Server)
	if err != nil || server.Host == "" || server.Scheme != "http" && server.Scheme != "https" {
		return usageErrorf("--server must be like https://mooring.example.org, not %s", u.Server)
	}
	return withAdmin(ctx, u.Location, func(admin *devices.Admin) error {
		secret, err := admin.NewLink(ctx, u.Name)
		if err != nil {
			return userError(err)
		}
		link := page.Link(strings.TrimSuffix(server.String(), "/"), secret)
		if u.JSON {
			return out.printJSON(map[string]string{"name": u.Name, "link": link})
		}
		fmt.Fprintf(out.stderr, "Opens the console as %s, once, within %.0f minutes:\n", u.Name, devices.LinkFor.Minutes())
		fmt.Fprintln(out.stdout, link)
		return nil
	})
}
