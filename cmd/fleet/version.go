package main

import (
	"fmt"

	"mooring/cmd/internal/app"
)

// versionCommand is fleet version; --version means it too.
type versionCommand struct {
	JSON bool `name:"json" help:"As JSON."`
}

// Run prints what the binary knows about itself.
func (v *versionCommand) Run(out *console) error {
	build := app.ReadBuild()
	if v.JSON {
		return out.printJSON(build)
	}
	fmt.Fprintln(out.stdout, build)
	return nil
}
