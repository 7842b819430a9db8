package archtest

import (
	"fmt"
	"slices"
	"strings"
)

// Module is the module's import path.
const Module = "mooring"

// Import is one import clause.
type Import struct {
	File   string // slash-separated, relative to the module's root
	Target string // import path
}

// directory is the folder of the importing file: "storage/embedded".
func (i Import) directory() string {
	if cut := strings.LastIndexByte(i.File, '/'); cut >= 0 {
		return i.File[:cut]
	}
	return "."
}

func (i Import) inTest() bool { return strings.HasSuffix(i.File, "_test.go") }

// layer says what the packages of one folder, and the folders below, may import
// of this module. The first layer that fits a folder holds.
type layer struct {
	folder    string
	may       []string // folders, each with what is below it
	mayInTest []string // in addition
}

// layers is the direction of imports: cmd → {ingest, devices, storage, client} → wire.
var layers = []layer{
	{folder: "wire"},
	{folder: "migrations", mayInTest: []string{"internal/pgtest"}},
	{folder: "ingest/door"},
	{folder: "ingest", may: []string{"wire", "ingest/door"}},
	{folder: "client", may: []string{"wire"}},
	{folder: "devices", may: []string{"wire"}, mayInTest: []string{"migrations", "internal/pgtest"}},
	// Starting Postgres is no business of whoever writes to it, nor the other way round.
	{folder: "storage/embedded", mayInTest: []string{"internal/pgtest"}},
	{folder: "storage", may: []string{"wire"}, mayInTest: []string{"migrations", "internal/deploy", "internal/pgtest"}},
	// People's view of devices and readings; it knows no gateway.
	{folder: "console/live", may: []string{"devices", "storage"}, mayInTest: []string{"wire", "migrations", "internal/pgtest"}},
	{folder: "console", may: []string{"console/live", "devices", "storage", "wire"}, mayInTest: []string{"migrations", "internal/pgtest"}},
	// Tests of what is written in C; they run the programs.
	{folder: "firmware/checks", mayInTest: []string{"internal/faults"}},
	{folder: "internal/archtest"},
	{folder: "internal/conformance", may: []string{"wire"}, mayInTest: []string{"ingest"}},
	{folder: "internal/deploy"},
	{folder: "internal/deploytest", mayInTest: []string{"internal/deploy", "internal/pgtest"}},
	// What it tests are the programs, which it builds and runs.
	{folder: "internal/faults", may: []string{"internal/faults/proxy", "internal/loopback", "internal/pgtest", "storage/embedded", "wire"}},
	{folder: "internal/loopback"},
	{folder: "internal/pgtest", may: []string{"storage/embedded", "migrations"}},
	// Devices as their users write them.
	{folder: "examples", may: []string{"client", "wire"}, mayInTest: []string{"internal/faults", "storage"}},
	{folder: "cmd", may: []string{"cmd", "ingest", "devices", "storage", "client", "console", "wire", "migrations"}, mayInTest: []string{"internal"}},
}

// foreign says which folders may import a module of others that is fenced in.
var foreign = []struct {
	prefix string
	may    []string
	why    string
}{
	{"github.com/lxzan/gws", []string{"ingest", "client", "console/live"}, "WebSockets are spoken in ingest, client and console/live alone"},
	{"github.com/vmihailenco/msgpack", []string{"wire"}, "MessagePack is spoken in wire alone"},
	{"github.com/jackc/pgx", []string{"storage", "devices", "migrations", "internal/pgtest", "internal/faults"}, "go through storage or devices"},
	{"github.com/alecthomas/kong", []string{"cmd"}, "libraries take their configuration as structs"},
}

// Check returns what is wrong with an import, or "".
func Check(i Import) string {
	folder := i.directory()
	for _, fence := range foreign {
		if within(i.Target, fence.prefix) && !slices.ContainsFunc(fence.may, func(may string) bool { return within(folder, may) }) {
			return fmt.Sprintf("%s imports %s: %s", i.File, i.Target, fence.why)
		}
	}
	target, ours := strings.CutPrefix(i.Target, Module+"/")
	if !ours || target == folder {
		return "" // a foreign package, or an external test of the package itself
	}
	for _, l := range layers {
		if !within(folder, l.folder) {
			continue
		}
		allowed := slices.Clone(l.may)
		if i.inTest() {
			allowed = append(allowed, l.mayInTest...)
		}
		if slices.ContainsFunc(allowed, func(may string) bool { return within(target, may) }) {
			return ""
		}
		return fmt.Sprintf("%s imports %s: %s may import only %v", i.File, i.Target, l.folder, allowed)
	}
	return fmt.Sprintf("%s: no layer is stated for folder %s; add it to internal/archtest", i.File, folder)
}

// within tells whether path is prefix or lies below it.
func within(path, prefix string) bool {
	return path == prefix || strings.HasPrefix(path, prefix+"/")
}
