//go:build linux

package faults

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Connection is a superuser's connection to the stage's database, for holding
// a lock or a transaction open. It is closed when the test ends.
type Connection struct {
	stage *Stage
	conn  *pgx.Conn
}

// sqlTimeout bounds one statement of the suite's own.
const sqlTimeout = time.Minute

// Connect opens a connection as the superuser.
func (s *Stage) Connect() *Connection {
	s.tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), sqlTimeout)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.SuperURL)
	if err != nil {
		s.tb.Fatalf("faults: %v", err)
	}
	c := &Connection{stage: s, conn: conn}
	s.tb.Cleanup(c.Close)
	return c
}

// Close closes the connection; its transaction, if any, is rolled back.
func (c *Connection) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = c.conn.Close(ctx) // whatever it says, it is closed
}

// Exec runs one statement.
func (c *Connection) Exec(sql string) {
	c.stage.tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), sqlTimeout)
	defer cancel()
	if _, err := c.conn.Exec(ctx, sql); err != nil {
		c.stage.tb.Fatalf("faults: %s: %v", sql, err)
	}
}

// Query runs one query and gives its rows as text; NULL is "".
func (c *Connection) Query(sql string) ([][]string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), sqlTimeout)
	defer cancel()
	rows, err := c.conn.Query(ctx, sql, pgx.QueryExecModeSimpleProtocol)
	if err != nil {
		return nil, fmt.Errorf("faults: %s: %w", sql, err)
	}
	defer rows.Close()
	var all [][]string
	for rows.Next() {
		var row []string
		for _, value := range rows.RawValues() {
			row = append(row, string(value))
		}
		all = append(all, row)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("faults: %s: %w", sql, err)
	}
	return all, nil
}

// SQL runs statements one after the other as the superuser, each on its own, and
// gives the rows of the last.
func (s *Stage) SQL(statements ...string) [][]string {
	s.tb.Helper()
	c := s.Connect()
	defer c.Close()
	var last [][]string
	for _, statement := range statements {
		rows, err := c.Query(statement)
		if err != nil {
			s.tb.Fatal(err)
		}
		last = rows
	}
	return last
}

// Reachable tells whether the superuser can ask PostgreSQL something; nil: yes.
func (s *Stage) Reachable() error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.SuperURL)
	if err != nil {
		return err
	}
	return conn.Close(ctx)
}
