package console

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"mooring/devices"
)

// User is a user as the API shows it.
type User struct {
	Name      string       `json:"name" doc:"Name of the user" example:"ann"`
	Role      devices.Role `json:"role" enum:"viewer,operator,admin" doc:"What the user may do; each role may do what the one before may"`
	CreatedAt time.Time    `json:"created_at"`
}

func toUser(user devices.User) User { return User{user.Name, user.Role, user.CreatedAt} }

type oneUser struct{ Body User }

// withRequest passes the request to an operation that needs more of it than its
// input type says.
type requestKey struct{}

func (a *API) addLogin() {
	type loginInput struct {
		Body struct {
			Token string `json:"token" maxLength:"256" doc:"A user's token, or the secret of a link that logs in once"`
		}
	}
	type sessionOutput struct {
		SetCookie http.Cookie `header:"Set-Cookie"`
		Body      User
	}
	login := operation(http.MethodPost, "/login", "login", "session", "Log a browser in", "")
	login.Description = "Sets a session cookie that scripts can't read, good for 12 hours."
	login.Errors = []int{http.StatusUnauthorized, http.StatusTooManyRequests}
	login.Middlewares = huma.Middlewares{keepRequest}
	huma.Register(a.huma, login, func(ctx context.Context, input *loginInput) (*sessionOutput, error) {
		request, _ := ctx.Value(requestKey{}).(*http.Request)
		type opened struct {
			user   devices.User
			secret string
		}
		session, err := check(a, request, func() (opened, error) {
			user, secret, err := a.cfg.Devices.Login(ctx, input.Body.Token)
			return opened{user, secret}, err
		})
		if err != nil {
			return nil, err
		}
		return &sessionOutput{a.cookie(request, session.secret, int(devices.SessionFor.Seconds())), toUser(session.user)}, nil
	})

	type logoutInput struct {
		Session http.Cookie `cookie:"mooring_session"`
	}
	type logoutOutput struct {
		SetCookie http.Cookie `header:"Set-Cookie"`
	}
	logout := operation(http.MethodPost, "/logout", "logout", "session", "End the browser's session", "")
	logout.Description = "Takes the cookie back, also that of a session which has ended before."
	logout.Errors = []int{http.StatusTooManyRequests, http.StatusServiceUnavailable}
	logout.Middlewares = huma.Middlewares{keepRequest}
	huma.Register(a.huma, logout, func(ctx context.Context, input *logoutInput) (*logoutOutput, error) {
		request, _ := ctx.Value(requestKey{}).(*http.Request)
		if err := a.endSession(ctx, request, input.Session.Value); err != nil {
			return nil, err
		}
		return &logoutOutput{a.cookie(request, "", -1)}, nil
	})

	me := operation(http.MethodGet, "/me", "me", "session", "Who am I?", devices.RoleViewer)
	huma.Register(a.huma, me, func(ctx context.Context, _ *struct{}) (*oneUser, error) {
		return &oneUser{toUser(userOf(ctx))}, nil
	})
}

// endSession ends a session. Whoever brings one that is none is limited as with
// wrong tokens: anybody may ask for this.
func (a *API) endSession(ctx context.Context, request *http.Request, session string) error {
	if session == "" {
		return nil
	}
	_, err := check(a, request, func() (struct{}, error) { return struct{}{}, a.cfg.Devices.Logout(ctx, session) })
	if known, ok := errors.AsType[huma.StatusError](err); ok && known.GetStatus() == http.StatusUnauthorized {
		return nil // it has ended before
	}
	return err
}

func keepRequest(ctx huma.Context, next func(huma.Context)) {
	request := requestOf(ctx)
	next(huma.WithValue(ctx, requestKey{}, request))
}

// cookie holds a session; scripts can't read it, and other sites' pages don't
// send it along.
func (a *API) cookie(request *http.Request, secret string, maxAge int) http.Cookie {
	return http.Cookie{ //nolint:gosec // Secure unless the browser came by plain HTTP
		Name: cookieName, Value: secret, Path: "/", MaxAge: maxAge,
		HttpOnly: true, Secure: a.cfg.Secure(request), SameSite: http.SameSiteStrictMode,
	}
}

func (a *API) addUsers() {
	const tag = "users"
	type list struct{ Body []User }
	huma.Register(a.huma, operation(http.MethodGet, "/users", "list-users", tag, "List users", devices.RoleAdmin),
		func(ctx context.Context, _ *struct{}) (*list, error) {
			users, err := a.cfg.Devices.Users(ctx)
			if err != nil {
				return nil, a.explain(ctx, err)
			}
			return &list{convert(users, toUser)}, nil
		})

	type addUserInput struct {
		Body struct {
			Name string       `json:"name" minLength:"1" maxLength:"128"`
			Role devices.Role `json:"role" enum:"viewer,operator,admin"`
		}
	}
	type userWithToken struct {
		Body struct {
			User
			Token string `json:"token" doc:"Shown this once; only its hash is stored"`
		}
	}
	add := operation(http.MethodPost, "/users", "add-user", tag, "Add a user", devices.RoleAdmin)
	add.DefaultStatus = http.StatusCreated
	huma.Register(a.huma, add, func(ctx context.Context, input *addUserInput) (*userWithToken, error) {
		user, token, err := a.cfg.Devices.AddUser(ctx, input.Body.Name, input.Body.Role)
		if err != nil {
			return nil, a.explain(ctx, err)
		}
		output := new(userWithToken)
		output.Body.User, output.Body.Token = toUser(user), token
		return output, nil
	})

	type named struct {
		Name string `path:"name" maxLength:"128"`
	}
	huma.Register(a.huma, operation(http.MethodDelete, "/users/{name}", "remove-user", tag, "Remove a user", devices.RoleAdmin),
		func(ctx context.Context, input *named) (*struct{}, error) {
			return nil, a.explain(ctx, a.cfg.Devices.RemoveUser(ctx, input.Name))
		})
}

// convert makes a list that is never null in JSON.
func convert[From, To any](list []From, each func(From) To) []To {
	converted := make([]To, len(list))
	for i := range list {
		converted[i] = each(list[i])
	}
	return converted
}

// orNull is nil for what has not come.
func orNull(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}
