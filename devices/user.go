package devices

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Role is what a user may do; each may do all that the one before may.
type Role string

// The roles.
const (
	RoleViewer   Role = "viewer"   // looks
	RoleOperator Role = "operator" // commands devices, adds and changes them
	RoleAdmin    Role = "admin"    // removes devices, and changes users
)

// rank orders the roles; 0 is none.
func (r Role) rank() int {
	switch r {
	case RoleViewer:
		return 1
	case RoleOperator:
		return 2
	case RoleAdmin:
		return 3
	}
	return 0
}

// May says whether the role includes another one.
func (r Role) May(other Role) bool { return other.rank() > 0 && r.rank() >= other.rank() }

// User is somebody, or a program, that uses the HTTP API.
type User struct {
	ID        int32
	Name      string
	Role      Role
	CreatedAt time.Time
}

// Credentials of users: a token is for programs and is good until it is
// replaced, a session is a browser's, a link logs a browser in once.
type userCredential string

const (
	credentialToken   userCredential = "token"
	credentialSession userCredential = "session"
	credentialLink    userCredential = "link"
)

// How long what browsers hold is good.
const (
	SessionFor = 12 * time.Hour
	LinkFor    = 10 * time.Minute
	// maxUserSessions of one user are kept; the oldest give way.
	maxUserSessions = 20
)

// Errors about users.
var (
	ErrUserExists = errors.New("user exists already")
	ErrNoUser     = errors.New("no such user")
)

// AddUser registers a user and returns its token, which is stored nowhere: this
// is the only time it can be shown. The errors are ErrUserExists, a *FieldError,
// or the database's.
func (a *Admin) AddUser(ctx context.Context, name string, role Role) (User, string, error) {
	if err := CheckName(name); err != nil {
		return User{}, "", err
	}
	if role.rank() == 0 {
		return User{}, "", &FieldError{"role", "must be viewer, operator or admin"}
	}
	user := User{Name: name, Role: role}
	var token string
	err := pgx.BeginFunc(ctx, a.pool, func(tx pgx.Tx) (err error) {
		err = tx.QueryRow(ctx, `INSERT INTO mooring.users (name, role) VALUES ($1, $2) RETURNING id, created_at`, name, role).
			Scan(&user.ID, &user.CreatedAt)
		if err != nil {
			return err
		}
		token, err = addCredential(ctx, tx, user.ID, credentialToken, 0)
		return err
	})
	var refused *pgconn.PgError
	if errors.As(err, &refused) && refused.Code == "23505" {
		return User{}, "", fmt.Errorf("%w: %s", ErrUserExists, name)
	}
	if err != nil {
		return User{}, "", fmt.Errorf("add user %s: %w", name, err)
	}
	return user, token, nil
}

// addCredential makes a credential that is good for so long; 0: for ever.
func addCredential(ctx context.Context, tx pgx.Tx, user int32, kind userCredential, length time.Duration) (string, error) {
	secret := newSecret(userPrefix)
	key := tokenKey(secret)
	var seconds *float64
	if length > 0 {
		value := length.Seconds()
		seconds = &value
	}
	_, err := tx.Exec(ctx, `
INSERT INTO mooring.user_credentials (hash, user_id, kind, expires_at) VALUES ($1, $2, $3, now() + make_interval(secs => $4::float8))`,
		key[:], user, kind, seconds)
	return secret, err
}

// RotateUser gives a user a new token and ends everything else that proved who
// it is. The errors are ErrNoUser or the database's.
func (a *Admin) RotateUser(ctx context.Context, name string) (string, error) {
	var token string
	err := pgx.BeginFunc(ctx, a.pool, func(tx pgx.Tx) error {
		var id int32
		err := tx.QueryRow(ctx, `SELECT id FROM mooring.users WHERE name = $1 FOR UPDATE`, name).Scan(&id)
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `DELETE FROM mooring.user_credentials WHERE user_id = $1`, id); err != nil {
			return err
		}
		token, err = addCredential(ctx, tx, id, credentialToken, 0)
		return err
	})
	return token, explainUser("give a new token to", name, err)
}

// RemoveUser removes a user; its token and sessions end at once. The errors are
// ErrNoUser or the database's.
func (a *Admin) RemoveUser(ctx context.Context, name string) error {
	tag, err := a.pool.Exec(ctx, `DELETE FROM mooring.users WHERE name = $1`, name)
	if err == nil && tag.RowsAffected() == 0 {
		err = pgx.ErrNoRows
	}
	return explainUser("remove", name, err)
}

func explainUser(what, name string, err error) error {
	switch {
	case err == nil:
		return nil
	case isNoRows(err):
		return fmt.Errorf("%w: %s", ErrNoUser, name)
	default:
		return fmt.Errorf("%s user %s: %w", what, name, err)
	}
}

// Users lists all users by name.
func (a *Admin) Users(ctx context.Context) ([]User, error) {
	rows, err := a.pool.Query(ctx, `SELECT id, name, role, created_at FROM mooring.users ORDER BY name`)
	if err != nil {
		return nil, fmt.Errorf("list users: %w", err)
	}
	users, err := pgx.CollectRows(rows, pgx.RowToStructByPos[User])
	if err != nil {
		return nil, fmt.Errorf("list users: %w", err)
	}
	return users, nil
}

// AuthenticateUser tells whose token or session it is. The error is
// ErrUnauthenticated or the database's.
func (a *Admin) AuthenticateUser(ctx context.Context, secret string) (User, error) {
	if !looksLikeSecret(secret, userPrefix) {
		return User{}, ErrUnauthenticated
	}
	key := tokenKey(secret)
	var user User
	err := a.pool.QueryRow(ctx, `
SELECT u.id, u.name, u.role, u.created_at
  FROM mooring.user_credentials c JOIN mooring.users u ON u.id = c.user_id
 WHERE c.hash = $1 AND c.kind IN ('token', 'session') AND (c.expires_at IS NULL OR c.expires_at > now())`, key[:]).
		Scan(&user.ID, &user.Name, &user.Role, &user.CreatedAt)
	if isNoRows(err) {
		return User{}, ErrUnauthenticated
	}
	if err != nil {
		return User{}, fmt.Errorf("ask who a user is: %w", err)
	}
	return user, nil
}

// NewLink makes a secret that logs a browser in once, within LinkFor. The errors
// are ErrNoUser or the database's.
func (a *Admin) NewLink(ctx context.Context, name string) (string, error) {
	var link string
	err := pgx.BeginFunc(ctx, a.pool, func(tx pgx.Tx) error {
		var id int32
		err := tx.QueryRow(ctx, `SELECT id FROM mooring.users WHERE name = $1`, name).Scan(&id)
		if err != nil {
			return err
		}
		link, err = addCredential(ctx, tx, id, credentialLink, LinkFor)
		return err
	})
	return link, explainUser("make a link for", name, err)
}

// Login turns a token, or a link, which is used up by it, into a session of a
// browser that is good for SessionFor. The error is ErrUnauthenticated or the
// database's.
func (a *Admin) Login(ctx context.Context, secret string) (User, string, error) {
	if !looksLikeSecret(secret, userPrefix) {
		return User{}, "", ErrUnauthenticated
	}
	key := tokenKey(secret)
	var user User
	var session string
	err := pgx.BeginFunc(ctx, a.pool, func(tx pgx.Tx) error {
		var kind userCredential
		err := tx.QueryRow(ctx, `
SELECT u.id, u.name, u.role, u.created_at, c.kind
  FROM mooring.user_credentials c JOIN mooring.users u ON u.id = c.user_id
 WHERE c.hash = $1 AND c.kind IN ('token', 'link') AND (c.expires_at IS NULL OR c.expires_at > now())
   FOR UPDATE OF c`, key[:]).Scan(&user.ID, &user.Name, &user.Role, &user.CreatedAt, &kind)
		if err != nil {
			return err
		}
		if kind == credentialLink {
			if _, err := tx.Exec(ctx, `DELETE FROM mooring.user_credentials WHERE hash = $1`, key[:]); err != nil {
				return err
			}
		}
		_, err = tx.Exec(ctx, `
DELETE FROM mooring.user_credentials WHERE expires_at < now() OR hash IN (
       SELECT hash FROM mooring.user_credentials WHERE user_id = $1 AND kind = 'session' ORDER BY created_at DESC OFFSET $2)`,
			user.ID, maxUserSessions-1)
		if err != nil {
			return err
		}
		session, err = addCredential(ctx, tx, user.ID, credentialSession, SessionFor)
		return err
	})
	if isNoRows(err) {
		return User{}, "", ErrUnauthenticated
	}
	if err != nil {
		return User{}, "", fmt.Errorf("log in: %w", err)
	}
	return user, session, nil
}

// Logout ends a session. The error is ErrUnauthenticated, if it is none or was
// ended before, or the database's; what can be no session is not asked for.
func (a *Admin) Logout(ctx context.Context, session string) error {
	if !looksLikeSecret(session, userPrefix) {
		return ErrUnauthenticated
	}
	key := tokenKey(session)
	tag, err := a.pool.Exec(ctx, `DELETE FROM mooring.user_credentials WHERE hash = $1 AND kind = 'session'`, key[:])
	if err != nil {
		return fmt.Errorf("log out: %w", err)
	}
	if tag.RowsAffected() == 0 {
		return ErrUnauthenticated
	}
	return nil
}
