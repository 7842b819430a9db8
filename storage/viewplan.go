package storage

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
)

const (
	// maxIdentifier is what Postgres keeps of a name, in bytes.
	maxIdentifier = 63
	// maxViewColumns stays under Postgres' 1,600, with room to be widened.
	maxViewColumns = 1500
	// maxViewVersions bounds the text of a view. Scripts that name their channels
	// anew each time make many versions.
	maxViewVersions = 200
)

// identifier shortens a name that Postgres would cut off, so that names which
// begin alike stay different.
func identifier(name string) string {
	if len(name) <= maxIdentifier {
		return name
	}
	sum := sha256.Sum256([]byte(name))
	head := name[:maxIdentifier-9]
	for !utf8.ValidString(head) {
		head = head[:len(head)-1]
	}
	return head + fmt.Sprintf("_%x", sum[:4])
}

// viewName is the name of a layout's view in mooring_layout.
func viewName(layout string) string {
	if layout == "" {
		return "(unnamed)"
	}
	return identifier(layout)
}

// The types of columns, by kind of channel, and the word that tells columns of
// one name apart.
var (
	columnTypes = []string{"double precision", "boolean", "text"}
	columnWords = []string{"number", "bool", "text"}
)

// plannedColumn is a column of a view, and where its values are: at which
// position in the samples of which layout.
type plannedColumn struct {
	viewColumn
	kind      int16
	positions map[int32]int16
	units     []string
}

// viewPlan is a view to be.
type viewPlan struct {
	layout   string
	versions int
	ids      []int32
	columns  []plannedColumn
	problems []string
}

// columnKey identifies a column over the versions of a layout. A channel that
// a later version declares with another kind gets a column of its own.
type columnKey struct {
	name string
	kind int16
	nth  int // of the same name and kind within one version
}

// planView decides the columns. Those of an existing view stay where they are
// and as they are, for Postgres can only add columns, at the end.
func planView(layout, view string, channels []layoutColumn, existing []viewColumn) viewPlan {
	plan := viewPlan{layout: layout}
	if view != layout {
		plan.problems = append(plan.problems, fmt.Sprintf("the view is called %q, because Postgres can't take the layout's name", view))
	}
	for i := range channels {
		if !slices.Contains(plan.ids, channels[i].layout) {
			plan.ids = append(plan.ids, channels[i].layout)
		}
	}
	plan.versions = len(plan.ids)
	if len(plan.ids) > maxViewVersions {
		plan.problems = append(plan.problems, fmt.Sprintf("of %d versions only the first %d are in the view", plan.versions, maxViewVersions))
		plan.ids = plan.ids[:maxViewVersions]
	}
	for i, name := range []string{"ts", "device", "seq"} {
		kind := []string{"timestamp with time zone", "text", "bigint"}[i]
		plan.columns = append(plan.columns, plannedColumn{viewColumn: viewColumn{name, kind}, kind: -1})
	}
	// Take over what is there, in its order; its channels are found below.
	for _, column := range existing[min(len(existing), len(plan.columns)):] {
		kind := int16(slices.Index(columnTypes, column.kind))
		plan.columns = append(plan.columns, plannedColumn{viewColumn: column, kind: kind})
	}
	plan.place(channels)
	return plan
}

// place finds a column for every channel of every version.
func (p *viewPlan) place(channels []layoutColumn) {
	places := make(map[columnKey]int)
	type occurrence struct {
		layout int32
		name   string
		kind   int16
	}
	seen := make(map[occurrence]int)
	full := false
	for _, channel := range channels {
		if !slices.Contains(p.ids, channel.layout) {
			continue
		}
		here := occurrence{channel.layout, channel.name, channel.kind}
		key := columnKey{channel.name, channel.kind, seen[here]}
		seen[here]++
		at, placed := places[key]
		if !placed {
			at = p.column(channel)
			if at < 0 {
				full = true
				continue
			}
			places[key] = at
		}
		column := &p.columns[at]
		if column.positions == nil {
			column.positions = make(map[int32]int16)
		}
		column.positions[channel.layout] = channel.pos
		if channel.unit != "" && !slices.Contains(column.units, channel.unit) {
			column.units = append(column.units, channel.unit)
		}
	}
	if full {
		p.problems = append(p.problems, fmt.Sprintf("the view has the first %d channels; the others are in readings only", maxViewColumns))
	}
}

// column finds or adds the column of a channel that has none yet: under its own
// name if that is free, else with its kind behind it, else with a number too.
func (p *viewPlan) column(channel layoutColumn) int {
	kind := columnTypes[channel.kind]
	for try := 0; ; try++ {
		name := channel.name
		if try > 0 {
			name += "_" + columnWords[channel.kind]
		}
		if try > 1 {
			name += "_" + strconv.Itoa(try)
		}
		name = identifier(name)
		at := slices.IndexFunc(p.columns, func(c plannedColumn) bool { return c.name == name })
		switch {
		case at >= 0 && (p.columns[at].positions != nil || p.columns[at].viewColumn.kind != kind || p.columns[at].kind < 0):
			continue // taken by another channel, or of another type
		case at < 0 && len(p.columns) >= maxViewColumns:
			return -1
		case at < 0:
			p.columns = append(p.columns, plannedColumn{viewColumn: viewColumn{name, kind}, kind: channel.kind})
			at = len(p.columns) - 1
		}
		if name != channel.name {
			p.problems = append(p.problems, fmt.Sprintf("channel %q (%s) is column %q, because its own name is taken or too long",
				channel.name, columnWords[channel.kind], name))
		}
		p.columns[at].positions = map[int32]int16{}
		return at
	}
}

func (p *viewPlan) problem() string { return strings.Join(p.problems, "; ") }

// statements make the view, its comments and its grant.
func (p *viewPlan) statements(view string) []string {
	name := pgx.Identifier{viewSchema, view}.Sanitize()
	var sql strings.Builder
	sql.WriteString("CREATE OR REPLACE VIEW " + name + " AS SELECT s.ts, d.name AS device, s.seq")
	for i := range p.columns[3:] {
		column := &p.columns[3+i]
		sql.WriteString(", " + p.expression(column) + " AS " + pgx.Identifier{column.name}.Sanitize())
	}
	sql.WriteString(" FROM mooring.samples s JOIN mooring.devices d ON d.id = s.device_id WHERE s.layout_id IN (")
	for i, id := range p.ids {
		if i > 0 {
			sql.WriteString(", ")
		}
		sql.WriteString(strconv.Itoa(int(id)))
	}
	sql.WriteString(")")
	list := []string{
		sql.String(),
		"COMMENT ON VIEW " + name + " IS " + literal("Mooring: samples of layout "+p.layout+", one column per channel. Kept by the server."),
		"SELECT mooring.grant_read(" + literal(name) + ")",
	}
	for i := range p.columns[3:] {
		column := &p.columns[3+i]
		if len(column.units) > 0 {
			list = append(list, "COMMENT ON COLUMN "+name+"."+pgx.Identifier{column.name}.Sanitize()+
				" IS "+literal("unit: "+strings.Join(column.units, ", ")))
		}
	}
	return list
}

// expression is where a column's value is. Mostly that is the same place in
// every version.
func (p *viewPlan) expression(column *plannedColumn) string {
	at := func(pos int16) string {
		switch column.kind {
		case 1:
			return fmt.Sprintf("s.vals[%d] <> 0", pos)
		case 2:
			return fmt.Sprintf("s.texts[%d]", pos)
		}
		return fmt.Sprintf("s.vals[%d]", pos)
	}
	var first int16
	same := len(column.positions) == len(p.ids)
	for _, pos := range column.positions {
		if first == 0 {
			first = pos
		}
		same = same && pos == first
	}
	if same && first > 0 {
		return "(" + at(first) + ")"
	}
	if len(column.positions) == 0 {
		return "NULL::" + column.viewColumn.kind
	}
	var sql strings.Builder
	sql.WriteString("CASE s.layout_id")
	for _, id := range p.ids {
		if pos, has := column.positions[id]; has {
			fmt.Fprintf(&sql, " WHEN %d THEN %s", id, at(pos))
		}
	}
	sql.WriteString(" END")
	return sql.String()
}

func literal(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }
