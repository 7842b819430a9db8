package deploy

import (
	"embed"
	"encoding/json"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Files are the mounted files, by their path below this folder.
//
//go:embed grafana prometheus
var Files embed.FS

// The kinds of data source that dashboards ask.
const (
	Postgres   = "grafana-postgresql-datasource"
	Prometheus = "prometheus"
)

// Query is something that a dashboard asks a data source.
type Query struct {
	Dashboard string // name of the file, without .json
	Where     string // title of the panel, or "$" and name of the variable
	Source    string // Postgres or Prometheus
	SourceUID string
	Text      string // SQL or PromQL, with Grafana's macros and variables
	Series    bool   // SQL whose answer is drawn over time: it needs a column "time"
}

// Alert is an alerting rule of Prometheus.
type Alert struct {
	Name        string            `yaml:"alert"`
	Expression  string            `yaml:"expr"`
	Labels      map[string]string `yaml:"labels"`
	Annotations map[string]string `yaml:"annotations"`
}

type source struct {
	Type string `json:"type"`
	UID  string `json:"uid"`
}

// dashboard is as much of Grafana's format as is checked.
type dashboard struct {
	UID    string `json:"uid"`
	Panels []struct {
		Title   string `json:"title"`
		Targets []struct {
			Source source `json:"datasource"`
			SQL    string `json:"rawSql"`
			PromQL string `json:"expr"`
			Format string `json:"format"`
		} `json:"targets"`
	} `json:"panels"`
	Templating struct {
		List []struct {
			Name   string          `json:"name"`
			Source source          `json:"datasource"`
			Query  json.RawMessage `json:"query"`
		} `json:"list"`
	} `json:"templating"`
}

// Dashboards are the names of the dashboards' files, without .json.
func Dashboards() ([]string, error) {
	files, err := fs.Glob(Files, "grafana/dashboards/*.json")
	if err != nil {
		return nil, err
	}
	for i, file := range files {
		files[i] = strings.TrimSuffix(path.Base(file), ".json")
	}
	return files, nil
}

// Queries are all queries of all dashboards, those of their variables included.
func Queries() ([]Query, error) {
	names, err := Dashboards()
	if err != nil {
		return nil, err
	}
	var queries []Query
	for _, name := range names {
		text, err := Files.ReadFile("grafana/dashboards/" + name + ".json")
		if err != nil {
			return nil, err
		}
		var board dashboard
		if err := json.Unmarshal(text, &board); err != nil {
			return nil, fmt.Errorf("dashboard %s: %w", name, err)
		}
		found, err := board.queries(name)
		if err != nil {
			return nil, err
		}
		queries = append(queries, found...)
	}
	return queries, nil
}

func (d *dashboard) queries(name string) ([]Query, error) {
	var queries []Query
	for _, panel := range d.Panels {
		for _, target := range panel.Targets {
			queries = append(queries, Query{
				Dashboard: name, Where: panel.Title, Source: target.Source.Type, SourceUID: target.Source.UID,
				Text: target.SQL + target.PromQL, Series: target.Format == "time_series",
			})
		}
	}
	for _, variable := range d.Templating.List {
		q := Query{Dashboard: name, Where: "$" + variable.Name, Source: variable.Source.Type, SourceUID: variable.Source.UID}
		var ofPrometheus struct {
			Query string `json:"query"`
		}
		if json.Unmarshal(variable.Query, &q.Text) != nil {
			if err := json.Unmarshal(variable.Query, &ofPrometheus); err != nil {
				return nil, fmt.Errorf("dashboard %s: variable %s: %w", name, variable.Name, err)
			}
			q.Text = ofPrometheus.Query
		}
		queries = append(queries, q)
	}
	return queries, nil
}

// Alerts are all alerting rules.
func Alerts() ([]Alert, error) {
	text, err := Files.ReadFile("prometheus/alerts.yml")
	if err != nil {
		return nil, err
	}
	var file struct {
		Groups []struct {
			Rules []Alert `yaml:"rules"`
		} `yaml:"groups"`
	}
	if err := yaml.Unmarshal(text, &file); err != nil {
		return nil, fmt.Errorf("alerts.yml: %w", err)
	}
	var alerts []Alert
	for _, group := range file.Groups {
		alerts = slices.Concat(alerts, group.Rules)
	}
	return alerts, nil
}
