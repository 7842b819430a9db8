package console

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"mooring/console/live"
	"mooring/devices"
)

// LivePath is where people look on, see docs/LIVE.md.
const LivePath = "/v1/live"

// liveRetry is after how many seconds one who was turned away may come again.
const liveRetry = 10

var errLoggedOut = errors.New("the login has ended")

// ServeLive makes a request a viewer, if it is a viewer's.
func (a *API) ServeLive(w http.ResponseWriter, r *http.Request) {
	switch {
	case a.cfg.Live == nil:
		problem(w, http.StatusNotFound, "nothing is shown live here")
		return
	case r.Method != http.MethodGet:
		w.Header().Set("Allow", http.MethodGet)
		problem(w, http.StatusMethodNotAllowed, "only GET is answered here")
		return
	}
	user, err := a.viewer(r) //nolint:contextcheck // it has the request
	if err == nil {
		err = a.cfg.Live.Serve(w, r, live.Person{
			User:    user.ID,
			Recheck: func(ctx context.Context) error { return a.mayGoOn(ctx, r, user) },
			Admitted: func() {
				if a.cfg.Admitted != nil {
					a.cfg.Admitted(r)
				}
			},
		})
	}
	if err != nil {
		refuseLive(w, err)
	}
}

// viewer is who asks to look on.
func (a *API) viewer(r *http.Request) (devices.User, error) {
	if _, isCookie := secretOf(r); isCookie && len(r.Header.Values("Origin")) > 0 && !a.cfg.CheckOrigin(r) {
		return devices.User{}, huma.Error403Forbidden("a page of this origin may not look on")
	}
	user, err := a.userBehind(r)
	if err != nil {
		return user, err
	}
	if !user.Role.May(devices.RoleViewer) {
		return user, huma.Error403Forbidden(user.Name + " may not look on")
	}
	if wait, ok := a.limits.request(user.ID); !ok {
		return user, tooMany(wait, "too many requests of this user")
	}
	return user, nil
}

// mayGoOn asks again about a viewer that was let in. A database that does not
// answer sends nobody away.
func (a *API) mayGoOn(ctx context.Context, r *http.Request, was devices.User) error {
	secret, _ := secretOf(r)
	user, err := a.cfg.Devices.AuthenticateUser(ctx, secret)
	switch {
	case errors.Is(err, devices.ErrUnauthenticated):
		return errLoggedOut
	case err == nil && (user.ID != was.ID || !user.Role.May(devices.RoleViewer)):
		return errLoggedOut
	}
	return nil
}

// refuseLive answers a request that does not become a viewer.
func refuseLive(w http.ResponseWriter, err error) {
	var refusal *live.RefusalError
	var known huma.StatusError
	switch {
	case errors.As(err, &refusal):
		switch refusal.Status {
		case http.StatusServiceUnavailable, http.StatusTooManyRequests:
			w.Header().Set("Retry-After", strconv.Itoa(liveRetry))
		}
		problem(w, refusal.Status, refusal.Detail)
	case errors.As(err, &known):
		if headers, ok := errors.AsType[huma.HeadersError](err); ok {
			for name, values := range headers.GetHeaders() {
				w.Header().Set(name, values[0])
			}
		}
		if known.GetStatus() == http.StatusUnauthorized {
			w.Header().Set("WWW-Authenticate", `Bearer realm="mooring"`)
		}
		problem(w, known.GetStatus(), known.Error())
	}
	// Anything else: the connection is gone.
}

// sameOrigin lets pages of the same host look on.
func sameOrigin(r *http.Request) bool {
	values := r.Header.Values("Origin")
	if len(values) != 1 {
		return false
	}
	origin, err := url.Parse(values[0])
	return err == nil && origin.Host != "" && strings.EqualFold(origin.Host, r.Host)
}

// EncodeCommand is a command as GET /api/v1/commands/{number} shows it, without
// its history.
func EncodeCommand(command devices.Command) ([]byte, error) {
	return json.Marshal(toCommand(command))
}
