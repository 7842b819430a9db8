package storage

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	connectTimeout = 10 * time.Second
	// poolSize is for everything but rows: layouts, partitions, bookkeeping,
	// rejects.
	poolSize = 4
)

// dialer finds out within half a minute that the other side is gone without a
// word; AttemptTimeout catches what is alive but hangs.
var dialer = net.Dialer{
	Timeout: connectTimeout,
	KeepAliveConfig: net.KeepAliveConfig{
		Enable: true, Idle: 10 * time.Second, Interval: 5 * time.Second, Count: 4,
	},
}

// settings are what every session of ours needs, whatever the defaults of the
// database are: partition bounds are read as text, and a client that died must
// not hold locks for long.
var settings = map[string]string{
	"client_encoding":                     "UTF8",
	"TimeZone":                            "UTC",
	"DateStyle":                           "ISO, YMD",
	"idle_in_transaction_session_timeout": "60000",
	"search_path":                         "pg_catalog",
}

func prepare(config *pgconn.Config, application string) {
	config.DialFunc = dialer.DialContext
	config.ConnectTimeout = connectTimeout
	for name, value := range settings {
		config.RuntimeParams[name] = value
	}
	config.RuntimeParams["application_name"] = application
}

// connectWriter opens a connection of a writer's own.
func connectWriter(ctx context.Context, url string, writer int) (*pgconn.PgConn, error) {
	config, err := pgconn.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("storage: database URL: %w", err)
	}
	prepare(config, fmt.Sprintf("mooring writer %d", writer))
	conn, err := pgconn.ConnectConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("storage: connect writer %d: %w", writer, err)
	}
	return conn, nil
}

func newPool(ctx context.Context, url, application string, size int32) (*pgxpool.Pool, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("storage: database URL: %w", err)
	}
	prepare(&config.ConnConfig.Config, application)
	config.MaxConns = size
	config.MaxConnIdleTime = 5 * time.Minute
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("storage: open connections: %w", err)
	}
	return pool, nil
}
