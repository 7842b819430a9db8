package storage

import (
	"context"
	"fmt"
	"maps"
	"net"
	"sync"
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
	"standard_conforming_strings":         "on", // literals in views are quoted for this
}

// sockets are the open connections of a Store, so that Close can cut those
// which pgx would wait for a quarter of a minute to say goodbye to.
type sockets struct {
	mu   sync.Mutex
	open map[*socket]struct{}
	cut  bool
}

type socket struct {
	net.Conn
	owner *sockets
}

func (s *sockets) dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := dialer.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	one := &socket{Conn: conn, owner: s}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cut {
		_ = conn.Close()
		return nil, net.ErrClosed
	}
	if s.open == nil {
		s.open = make(map[*socket]struct{})
	}
	s.open[one] = struct{}{}
	return one, nil
}

// Close closes the connection and forgets it.
func (c *socket) Close() error {
	c.owner.mu.Lock()
	delete(c.owner.open, c)
	c.owner.mu.Unlock()
	return c.Conn.Close()
}

// cutAll closes all connections, now and to come.
func (s *sockets) cutAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cut = true
	for conn := range s.open {
		_ = conn.Conn.Close()
	}
}

func prepare(config *pgconn.Config, application string, s *sockets) {
	config.DialFunc = s.dial
	config.ConnectTimeout = connectTimeout
	maps.Copy(config.RuntimeParams, settings)
	config.RuntimeParams["application_name"] = application
	if application != readerApplication {
		// We bound our statements ourselves. One that a role or database sets for
		// everybody would also stay with a session after it was taken back.
		config.RuntimeParams["statement_timeout"] = "0"
	}
}

// connectWriter opens a connection of a writer's own.
func connectWriter(ctx context.Context, url string, s *sockets, writer int, notice pgconn.NoticeHandler) (*pgconn.PgConn, error) {
	config, err := pgconn.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("storage: database URL: %w", err)
	}
	config.OnNotice = notice
	config.RuntimeParams["client_min_messages"] = "warning" // replication.go waits for one
	prepare(config, fmt.Sprintf("mooring writer %d", writer), s)
	conn, err := pgconn.ConnectConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("storage: connect writer %d: %w", writer, err)
	}
	return conn, nil
}

func newPool(ctx context.Context, url, application string, s *sockets, size int32) (*pgxpool.Pool, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("storage: database URL: %w", err)
	}
	prepare(&config.ConnConfig.Config, application, s)
	config.MaxConns = size
	config.MaxConnIdleTime = 5 * time.Minute
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("storage: open connections: %w", err)
	}
	return pool, nil
}

// CheckURL says what is wrong with a connection URL, without its password.
func CheckURL(url string) error {
	if _, err := pgxpool.ParseConfig(url); err != nil {
		return fmt.Errorf("storage: %w", err)
	}
	return nil
}
