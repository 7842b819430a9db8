package devices

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// presenceChannel carries numbers of devices, separated by commas: whose
	// presence may have changed (triggers of 00008_presence.sql).
	presenceChannel = "mooring_presence"
	// presencePortion devices are read by one statement and told in one call.
	presencePortion = 1000
	// presenceLeases is how often the follower looks for servers whose lease ran
	// out: one that dies says nothing, and if no other one lives, nobody closes
	// its sessions.
	presenceLeases = 5 * time.Second
)

// PresenceChange says what a device's presence is now.
type PresenceChange struct {
	DeviceID int32
	Device   string
	Session  int64 // the newest one; it rises with every connection. 0: never connected
	Online   bool
	Since    time.Time // when Online became what it is; zero: never connected
	Reason   string    // why, in words
	Removed  bool      // the device is there no longer
}

// selectPresence reads the devices $1, or, if that is NULL, up to $3 of them
// with numbers after $2.
const selectPresence = `
SELECT device_id, device, COALESCE(session, 0), online, since, reason
  FROM mooring.device_status
 WHERE ($1::int4[] IS NULL AND device_id > $2 OR device_id = ANY ($1))
 ORDER BY device_id LIMIT $3`

// FollowPresence calls changed with the presence of every device, then calls
// synced, then changed with every change that is committed, until ctx ends or
// changed returns an error, which it returns. Changes of one device come in
// their order, the last one always comes; where several follow each other within
// milliseconds those between may be left out. Each call has at most 1,000
// devices; while it runs news gather, as numbers of devices only. A lost
// connection is made anew, and what was missed is told then; synced is called
// once.
//
// It has a connection of its own. The slice is the caller's to keep.
func (a *Admin) FollowPresence(ctx context.Context, synced func(), changed func([]PresenceChange) error) error {
	f := &presenceFollower{admin: a, synced: synced, changed: changed, known: make(map[int32]presenceMark)}
	retry := minListenRetry
	for {
		heard, err := f.follow(ctx)
		var refused *callerError
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.As(err, &refused):
			return refused.error
		case heard:
			retry = minListenRetry
		}
		if !sleep(ctx, retry) {
			return ctx.Err()
		}
		retry = min(2*retry, maxListenRetry)
	}
}

// callerError is an error of changed, which ends the following.
type callerError struct{ error }

// presenceMark is what was last told of a device.
type presenceMark struct {
	session int64
	online  bool
}

// presenceFollower remembers some 40 bytes for each device.
type presenceFollower struct {
	admin   *Admin
	synced  func() // nil: called already
	changed func([]PresenceChange) error
	known   map[int32]presenceMark
	dead    []int32 // servers whose lease ran out and whom nobody has declared dead
}

// follow listens on one connection until it is lost. It returns whether it got
// so far as to listen.
func (f *presenceFollower) follow(ctx context.Context) (heard bool, err error) {
	conn, err := pgx.ConnectConfig(ctx, f.admin.pool.Config().ConnConfig)
	if err != nil {
		return false, fmt.Errorf("follow presence: %w", err)
	}
	defer func() {
		bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = conn.Close(bounded) // it is given up; what it has to say no longer matters
	}()
	// First listen, then read: what changes in between is heard.
	if _, err := conn.Exec(ctx, "LISTEN "+presenceChannel); err != nil {
		return false, fmt.Errorf("follow presence: %w", err)
	}
	if err := f.readAll(ctx, conn); err != nil {
		return false, err
	}
	if f.synced != nil {
		f.synced()
		f.synced = nil
	}
	look := time.Now().Add(presenceLeases)
	for {
		suspects, err := awaitPresence(ctx, conn, look)
		if err != nil {
			return true, fmt.Errorf("follow presence: %w", err)
		}
		for portion := range slices.Chunk(suspects, presencePortion) {
			if err := f.read(ctx, conn, portion); err != nil {
				return true, err
			}
		}
		if !time.Now().Before(look) {
			if err := f.checkLeases(ctx, conn); err != nil {
				return true, err
			}
			look = time.Now().Add(presenceLeases)
		}
	}
}

// checkLeases reads all devices if a server's lease ran out, or was renewed
// after that.
func (f *presenceFollower) checkLeases(ctx context.Context, conn *pgx.Conn) error {
	var dead []int32
	err := conn.QueryRow(ctx, `
SELECT COALESCE(array_agg(incarnation ORDER BY incarnation), '{}') FROM mooring.gateways
 WHERE ended_at IS NULL AND lease_until <= now()`).Scan(&dead)
	if err != nil {
		return fmt.Errorf("follow presence: %w", err)
	}
	if slices.Equal(dead, f.dead) {
		return nil
	}
	if err := f.readAll(ctx, conn); err != nil {
		return err
	}
	f.dead = dead
	return nil
}

// awaitPresence waits for a notification, or until a time, and takes whatever
// else has come. A notification is a hint, as all are: the tables say what holds.
func awaitPresence(ctx context.Context, conn *pgx.Conn, until time.Time) ([]int32, error) {
	suspects := make(map[int32]struct{})
	for {
		if len(suspects) > 0 {
			until = time.Now() // no more than is there already
		}
		waiting, cancel := context.WithDeadline(ctx, until)
		news, err := conn.WaitForNotification(waiting)
		cancel()
		if err != nil {
			if ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) && !conn.IsClosed() {
				return slices.Sorted(maps.Keys(suspects)), nil
			}
			return nil, err
		}
		for field := range strings.SplitSeq(news.Payload, ",") {
			if device, err := strconv.ParseInt(field, 10, 32); err == nil {
				suspects[int32(device)] = struct{}{}
			}
		}
	}
}

// readAll tells of every device that differs from what was last told, and of
// those that are gone.
func (f *presenceFollower) readAll(ctx context.Context, conn *pgx.Conn) error {
	seen := make(map[int32]struct{}, len(f.known))
	for after := int32(0); ; {
		portion, err := readPresence(ctx, conn, nil, after)
		if err != nil {
			return err
		}
		if err := f.tell(portion); err != nil {
			return err
		}
		for i := range portion {
			seen[portion[i].DeviceID] = struct{}{}
		}
		if len(portion) < presencePortion {
			break
		}
		after = portion[len(portion)-1].DeviceID
	}
	var gone []int32
	for device := range f.known {
		if _, ok := seen[device]; !ok {
			gone = append(gone, device)
		}
	}
	return f.tellGone(gone)
}

// read tells of those of some devices that differ from what was last told.
func (f *presenceFollower) read(ctx context.Context, conn *pgx.Conn, suspects []int32) error {
	portion, err := readPresence(ctx, conn, suspects, 0)
	if err != nil {
		return err
	}
	if err := f.tell(portion); err != nil {
		return err
	}
	there := make(map[int32]struct{}, len(portion))
	for i := range portion {
		there[portion[i].DeviceID] = struct{}{}
	}
	return f.tellGone(slices.DeleteFunc(slices.Clone(suspects), func(device int32) bool {
		_, is := there[device]
		return is
	}))
}

func readPresence(ctx context.Context, conn *pgx.Conn, devices []int32, after int32) ([]PresenceChange, error) {
	rows, err := conn.Query(ctx, selectPresence, devices, after, presencePortion)
	if err != nil {
		return nil, fmt.Errorf("read presence: %w", err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (PresenceChange, error) {
		var p PresenceChange
		var since *time.Time
		err := row.Scan(&p.DeviceID, &p.Device, &p.Session, &p.Online, &since, &p.Reason)
		p.Since = orZero(since)
		return p, err
	})
	if err != nil {
		return nil, fmt.Errorf("read presence: %w", err)
	}
	return list, nil
}

func (f *presenceFollower) tell(portion []PresenceChange) error {
	var news []PresenceChange
	for i := range portion {
		mark := presenceMark{portion[i].Session, portion[i].Online}
		if known, ok := f.known[portion[i].DeviceID]; ok && known == mark {
			continue
		}
		f.known[portion[i].DeviceID] = mark
		news = append(news, portion[i])
	}
	return f.call(news)
}

func (f *presenceFollower) tellGone(devices []int32) error {
	var news []PresenceChange
	for _, device := range devices {
		if mark, ok := f.known[device]; ok {
			delete(f.known, device)
			news = append(news, PresenceChange{
				DeviceID: device, Session: mark.session, Since: time.Now(), Reason: "the device was removed", Removed: true,
			})
		}
	}
	return f.call(news)
}

func (f *presenceFollower) call(news []PresenceChange) error {
	if len(news) == 0 {
		return nil
	}
	if err := f.changed(news); err != nil {
		return &callerError{err}
	}
	return nil
}
