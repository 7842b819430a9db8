package devices

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	notifyChannel = "mooring_devices"
	// leaseLock is the first half of the advisory lock that an incarnation
	// holds while its listening connection lives; the second is its number.
	leaseLock = 0x4d6f6f72

	listenPing     = 20 * time.Second // silence after which the connection is tried
	minListenRetry = 100 * time.Millisecond
	maxListenRetry = 5 * time.Second
)

// listener hears of changed credentials, of commands and of devices that came to
// other gateways, on a connection of its own, which also holds the lock that tells a living gateway from a dead one.
type listener struct {
	registry *Registry
	config   *pgx.ConnConfig
	conn     *pgx.Conn // nil: lost
	locked   bool
}

func (l *listener) connect(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, l.registry.config.Wait)
	defer cancel()
	conn, err := pgx.ConnectConfig(withPurpose(ctx, "listen"), l.config)
	if err != nil {
		return err
	}
	l.conn, l.locked = conn, false
	_, err = conn.Exec(withPurpose(ctx, "listen"), "LISTEN "+notifyChannel+"; LISTEN "+commandsChannel+"; LISTEN "+presenceChannel)
	return err
}

// lock takes the incarnation's lock. It does not wait: only an older connection
// of this very incarnation can hold it, which proves the same.
func (l *listener) lock(ctx context.Context) error {
	if l.locked {
		return nil
	}
	return l.conn.QueryRow(ctx, `SELECT pg_try_advisory_lock($1, $2)`, leaseLock, l.registry.incarnation).Scan(&l.locked)
}

func (l *listener) disconnect(ctx context.Context) {
	if l.conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_ = l.conn.Close(ctx) // it is given up; what it has to say no longer matters
	l.conn = nil
}

// run listens until stop ends.
func (l *listener) run(stop context.Context) {
	defer l.disconnect(stop)
	logger := l.registry.config.Logger
	retry := minListenRetry
	for stop.Err() == nil {
		if l.conn == nil {
			if err := l.reconnect(stop); err != nil {
				l.disconnect(stop)
				logger.Warn("can't listen for changed credentials; trying again", "error", err, "in", retry)
				sleep(stop, time.Duration(float64(retry)*(0.5+0.5*rand.Float64()))) //nolint:gosec // jitter, no secret
				retry = min(2*retry, maxListenRetry)
				continue
			}
			retry = minListenRetry
		}
		if err := l.listen(stop); err != nil && stop.Err() == nil {
			logger.Warn("lost the connection that listens for changed credentials", "error", err)
			l.disconnect(stop)
		}
	}
}

// reconnect listens again. What happened meanwhile was not heard: so nothing
// remembered holds any more, and open sessions must be checked. In this order:
// what changes from now on is heard.
func (l *listener) reconnect(ctx context.Context) error {
	if err := l.connect(ctx); err != nil {
		return err
	}
	l.registry.metrics.listenReconnects.Inc()
	l.registry.cache.forgetAll()
	signal(l.registry.recheck)
	l.registry.dispatcher.missed()
	return l.ping(ctx)
}

// listen waits for one notification, or for listenPing.
func (l *listener) listen(stop context.Context) error {
	ctx, cancel := context.WithTimeout(stop, listenPing)
	defer cancel()
	notification, err := l.conn.WaitForNotification(ctx)
	switch {
	case err == nil:
		switch notification.Channel {
		case commandsChannel:
			l.registry.heardQueued(notification.Payload)
		case presenceChannel:
			l.registry.heardPresence(notification.PID, notification.Payload)
		default:
			l.registry.heard(notification.Payload)
		}
		return nil
	case errors.Is(err, context.DeadlineExceeded) && !l.conn.IsClosed():
		return l.ping(stop)
	default:
		return err
	}
}

// ping makes sure that the connection lives and holds the lock.
func (l *listener) ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(withPurpose(ctx, "listen"), l.registry.config.Wait)
	defer cancel()
	if !l.locked {
		return l.lock(ctx)
	}
	_, err := l.conn.Exec(ctx, "SELECT 1")
	return err
}

// news as the triggers of 00001_devices.sql tell it.
type notification struct {
	kind   string
	device int32
	token  int64
	at     time.Time // by the database's clock
}

func parseNotification(payload string) (notification, error) {
	fields := strings.Fields(payload)
	if len(fields) < 4 {
		return notification{}, fmt.Errorf("notification %q has too few fields", payload)
	}
	device, err1 := strconv.ParseInt(fields[1], 10, 32)
	token, err2 := strconv.ParseInt(fields[2], 10, 64)
	millis, err3 := strconv.ParseInt(fields[3], 10, 64)
	if err := errors.Join(err1, err2, err3); err != nil {
		return notification{}, fmt.Errorf("notification %q: %w", payload, err)
	}
	return notification{fields[0], int32(device), token, time.UnixMilli(millis)}, nil
}

// heard acts on a notification. It is a hint, never a verdict: everybody who
// may connect to the database may notify, also who may only read. So it makes
// the registry forget and ask, and the tables say what holds.
func (r *Registry) heard(payload string) {
	n, err := parseNotification(payload)
	if err != nil {
		n.kind = "unknown"
		r.config.Logger.Warn("a notification can't be read; forgetting all credentials", "error", err)
	} else {
		r.metrics.notificationDelay.Observe(max(time.Since(n.at), 0).Seconds())
	}
	switch n.kind {
	case "added":
		r.cache.forgetRefusals()
	case "changed":
		r.cache.forgetDevice(n.device)
	case "revoked", "disabled", "removed":
		r.suspect(n.device)
	case "enabled":
		r.cache.forgetRefusals()
		r.book.pardon(n.device)
	case "renamed":
		r.suspect(n.device) // its certificates name another one now
		r.cache.forgetRefusals()
	default: // a newer version's kind: assume the worst
		n.kind = "unknown"
		r.cache.forgetAll()
		signal(r.recheck)
	}
	r.metrics.notifications.WithLabelValues(n.kind).Inc()
}

// suspect makes sure that what is known of a device is asked for again: by
// those who come, of sessions that are being opened, and of open ones.
func (r *Registry) suspect(device int32) {
	r.cache.forgetDevice(device)
	r.openings.suspect(device)
	r.suspectSessions(device)
}

func (r *Registry) suspectSessions(device int32) {
	if r.book.suspect(device) {
		signal(r.suspected)
	}
}
