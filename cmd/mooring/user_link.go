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

	Server string `placeholder:"URL" help:"The server as the browser reaches it (default: --listen and --tls-cert of the environment or --config, on this machine)."`
	JSON   bool   `name:"json" help:"As JSON."`

	// The server's own, where its environment or file is known.
	Listen  string `env:"MOORING_LISTEN" default:":8080" hidden:"" help:"TCP address that the server listens on."`
	TLSCert string `name:"tls-cert" env:"MOORING_TLS_CERT" hidden:"" help:"Certificate chain of the server."`
}

// Help gives an example.
func (userLinkCommand) Help() string {
	return `  mooring user link ann --server https://mooring.example.org

Whoever opens the link is that user: it works once, within ten minutes. Without --server it is for a browser on this machine, and says for which address.`
}

// server is the server's address, and whether it is no more than what is likely.
func (u *userLinkCommand) server() (address string, assumed bool, err error) {
	if u.Server == "" {
		return app.ServerURL(u.Listen, u.TLSCert != ""), true, nil
	}
	server, err := url.Parse(u.Server)
	if err != nil || server.Host == "" || server.Scheme != "http" && server.Scheme != "https" {
		return "", false, usageErrorf("--server must be like https://mooring.example.org, not %s", u.Server)
	}
	return strings.TrimSuffix(server.String(), "/"), false, nil
}

// Run makes a link that opens the console.
func (u *userLinkCommand) Run(ctx context.Context, out *console) error {
	server, assumed, err := u.server()
	if err != nil {
		return err
	}
	return withAdmin(ctx, u.Location, func(admin *devices.Admin) error {
		secret, err := admin.NewLink(ctx, u.Name)
		if err != nil {
			return userError(err)
		}
		if assumed {
			fmt.Fprintf(out.stderr, "Assuming that the browser reaches the server at %s; if not: --server URL.\n", server)
		}
		link := page.Link(server, secret)
		if u.JSON {
			return out.printJSON(map[string]string{"name": u.Name, "link": link})
		}
		fmt.Fprintf(out.stderr, "Opens the console as %s, once, within %.0f minutes:\n", u.Name, devices.LinkFor.Minutes())
		fmt.Fprintln(out.stdout, link)
		return nil
	})
}
