// Package deploy holds what docker-compose.yml mounts: Prometheus' configuration
// and alert rules, Grafana's data sources and dashboards. The Go code reads the
// dashboards and rules for the tests that hold them against the schema, the
// metrics and docs/OPERATIONS.md. It does nothing by itself and has no goroutine.
package deploy
