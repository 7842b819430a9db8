package terminal

import (
	"io"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
)

// Table writes rows under their column names, the way psql does, cells as Plain
// shows them. Columns in
// which every cell is a number are set to the right.
func Table(w io.Writer, columns []string, rows [][]string) {
	writer := table.NewWriter()
	writer.SetOutputMirror(w)
	style := table.StyleLight
	style.Format.Header = text.FormatDefault // column names as they are in SQL
	style.Options.DrawBorder = false
	style.Options.SeparateColumns = false
	writer.SetStyle(style)

	header := make(table.Row, len(columns))
	configs := make([]table.ColumnConfig, len(columns))
	for i, column := range columns {
		header[i] = column
		configs[i] = table.ColumnConfig{Number: i + 1, Align: text.AlignLeft}
		if numeric(rows, i) {
			configs[i].Align, configs[i].AlignHeader = text.AlignRight, text.AlignRight
		}
	}
	writer.AppendHeader(header)
	writer.SetColumnConfigs(configs)
	for _, cells := range rows {
		row := make(table.Row, len(cells))
		for i, cell := range cells {
			row[i] = Plain(cell)
		}
		writer.AppendRow(row)
	}
	writer.Render()
}

// numeric tells whether a column holds numbers alone.
func numeric(rows [][]string, column int) bool {
	seen := false
	for _, row := range rows {
		if column >= len(row) || row[column] == "" {
			continue
		}
		seen = true
		for i, c := range row[column] {
			if (c < '0' || c > '9') && c != '.' && c != ',' && c != '%' && (c != '-' || i > 0) {
				return false
			}
		}
	}
	return seen
}
