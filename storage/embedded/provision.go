//go:build linux || darwin

package embedded

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// What the reading role gets when it is made, so that its queries can neither
// hold the server up for ever nor fill the disk. An operator may change it.
var readerSettings = [][2]string{
	{"default_transaction_read_only", "on"},
	{"statement_timeout", "5min"},
	{"idle_in_transaction_session_timeout", "10min"},
	{"temp_file_limit", "8GB"},
	{"search_path", "mooring, mooring_layout, public"},
}

// errPassword says that Postgres does not know the password in the state file.
var errPassword = errors.New("postgres does not know the password in the state file")

// provision makes what is missing of roles and database, and sets passwords
// that differ. It is done at every start, so whatever interrupted the first
// one, or removed a role later, is healed.
func (c *Cluster) provision(ctx context.Context, s state) error {
	limited, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	connection, err := pgx.Connect(limited, s.superuserURL())
	if err != nil {
		if failure, ok := errors.AsType[*pgconn.PgError](err); ok && failure.Code == "28P01" {
			return fmt.Errorf("%w: %w", errPassword, err)
		}
		return fmt.Errorf("connect: %w", err)
	}
	defer connection.Close(context.WithoutCancel(limited))

	var directory string
	if err := connection.QueryRow(limited, "SHOW data_directory").Scan(&directory); err != nil {
		return fmt.Errorf("ask for the data directory: %w", err)
	}
	if directory != c.paths.cluster {
		return fmt.Errorf("the Postgres on port %d serves %s, not %s", s.Port, directory, c.paths.cluster)
	}
	if err := provisionRole(limited, connection, ownerRole, s.OwnerPassword); err != nil {
		return err
	}
	if err := provisionRole(limited, connection, readerRole, s.ReaderPassword); err != nil {
		return err
	}
	var known int
	err = connection.QueryRow(limited, `SELECT count(*) FROM pg_database WHERE datname = $1`, databaseName).Scan(&known)
	if err != nil {
		return fmt.Errorf("look for the database: %w", err)
	}
	if known == 0 {
		for _, statement := range []string{
			"CREATE DATABASE " + databaseName + " OWNER " + ownerRole,
			"REVOKE TEMPORARY ON DATABASE " + databaseName + " FROM PUBLIC",
		} {
			if _, err := connection.Exec(limited, statement); err != nil {
				return fmt.Errorf("create the database: %w", err)
			}
		}
	}
	return nil
}

func provisionRole(ctx context.Context, connection *pgx.Conn, role, secret string) error {
	var stored *string
	err := connection.QueryRow(ctx, `SELECT rolpassword FROM pg_authid WHERE rolname = $1`, role).Scan(&stored)
	missing := errors.Is(err, pgx.ErrNoRows)
	if err != nil && !missing {
		return fmt.Errorf("look for role %s: %w", role, err)
	}
	var statements []string
	if missing {
		statements = append(statements, "CREATE ROLE "+role+" LOGIN")
	}
	if missing || stored == nil || !scramMatches(*stored, secret) {
		verifier, err := scramVerifier(secret)
		if err != nil {
			return err
		}
		statements = append(statements, "ALTER ROLE "+role+" LOGIN PASSWORD '"+verifier+"'")
	}
	if role == readerRole && missing {
		for _, setting := range readerSettings {
			// A list of names is not one quoted value.
			value := "'" + setting[1] + "'"
			if setting[0] == "search_path" {
				value = setting[1]
			}
			statements = append(statements, "ALTER ROLE "+role+" SET "+setting[0]+" = "+value)
		}
	}
	for _, statement := range statements {
		if _, err := connection.Exec(ctx, statement); err != nil {
			return fmt.Errorf("set up role %s: %w", role, err)
		}
	}
	return nil
}

// resetSuperuser gives the superuser the password of the state file, without a
// running server: for a cluster whose state file was lost.
func (c *Cluster) resetSuperuser(ctx context.Context) error {
	verifier, err := scramVerifier(c.state.SuperuserPassword)
	if err != nil {
		return err
	}
	statement := "ALTER ROLE " + superuserRole + " LOGIN PASSWORD '" + verifier + "';\n"
	output, err := c.account.run(ctx, c.config.Throwaway, c.paths.cluster, c.installation.program("postgres"), statement,
		"--single", "-D", c.paths.cluster, "postgres")
	if err != nil {
		return &StartError{Step: "set a new password", Err: err, Tail: lastLines(output, 20)}
	}
	return nil
}
