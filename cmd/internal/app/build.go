package app

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

// Build is what the binary knows about how it was made.
type Build struct {
	Version  string `json:"version"`            // of the module; "(devel)" in a checkout
	Revision string `json:"revision,omitempty"` // git commit
	Modified bool   `json:"modified,omitempty"` // the checkout held changes
	Time     string `json:"time,omitempty"`     // of the commit, RFC 3339
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

// ReadBuild reads what the toolchain stamped into the binary.
func ReadBuild() Build {
	build := Build{Version: "(unknown)", Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return build
	}
	if info.Main.Version != "" {
		build.Version = info.Main.Version
	}
	for _, setting := range info.Settings {
		switch setting.Key {
		case "vcs.revision":
			build.Revision = setting.Value
		case "vcs.modified":
			build.Modified = setting.Value == "true"
		case "vcs.time":
			build.Time = setting.Value
		}
	}
	return build
}

func (b Build) String() string {
	text := "mooring " + b.Version
	if b.Revision != "" {
		text += fmt.Sprintf(" (%.12s", b.Revision)
		if b.Modified {
			text += ", modified"
		}
		text += ")"
	}
	return fmt.Sprintf("%s, %s, %s", text, b.Go, b.Platform)
}
