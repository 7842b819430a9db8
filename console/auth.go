package console

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/hashicorp/golang-lru/v2/simplelru"
	"golang.org/x/time/rate"

	"mooring/devices"
)

const (
	cookieName = "mooring_session"
	roleKey    = "role"
)

type userKey struct{}

// userOf is who asks.
func userOf(ctx context.Context) devices.User {
	user, _ := ctx.Value(userKey{}).(devices.User)
	return user
}

// identify finds out who asks, and whether they may.
func (a *API) identify(ctx huma.Context, next func(huma.Context)) {
	role, _ := ctx.Operation().Metadata[roleKey].(devices.Role)
	if role == "" {
		next(ctx)
		return
	}
	user, err := a.userBehind(requestOf(ctx))
	switch {
	case err != nil:
		a.refuse(ctx, err)
	case !user.Role.May(role):
		a.refuse(ctx, huma.Error403Forbidden(fmt.Sprintf("%s has the role %s; this needs the role %s", user.Name, user.Role, role)))
	default:
		if wait, ok := a.limits.request(user.ID); !ok {
			a.refuse(ctx, tooMany(wait, "too many requests of this user"))
			return
		}
		next(huma.WithValue(ctx, userKey{}, user))
	}
}

// refuse writes a problem instead of an answer.
func (a *API) refuse(ctx huma.Context, err error) {
	status := http.StatusInternalServerError
	if known, ok := errors.AsType[huma.StatusError](err); ok {
		status = known.GetStatus()
	}
	if headers, ok := errors.AsType[huma.HeadersError](err); ok {
		for name, values := range headers.GetHeaders() {
			ctx.SetHeader(name, values[0])
		}
	}
	if status == http.StatusUnauthorized {
		ctx.SetHeader("WWW-Authenticate", `Bearer realm="mooring"`)
	}
	_ = huma.WriteErr(a.huma, ctx, status, err.Error()) // whoever asked may be gone
}

func (a *API) userBehind(request *http.Request) (devices.User, error) {
	secret, _ := secretOf(request)
	if secret == "" {
		return devices.User{}, huma.Error401Unauthorized("say who you are: a token in the header Authorization, or log in")
	}
	return check(a, request, func() (devices.User, error) { return a.cfg.Devices.AuthenticateUser(request.Context(), secret) })
}

// secretOf is what a request brings to prove who asks; empty: nothing. A cookie
// is what a browser adds, whichever page asks.
func secretOf(request *http.Request) (secret string, isCookie bool) {
	if scheme, token, ok := strings.Cut(request.Header.Get("Authorization"), " "); ok && strings.EqualFold(scheme, "Bearer") {
		return strings.TrimSpace(token), false
	}
	if cookie, err := request.Cookie(cookieName); err == nil {
		return cookie.Value, true
	}
	return "", false
}

// check asks whether a secret is good, unless its sender has been wrong too
// often.
func check[T any](a *API, request *http.Request, ask func() (T, error)) (T, error) {
	var none T
	address := householdOf(a.cfg.From(request))
	if wait, ok := a.limits.mayFail(address); !ok {
		return none, tooMany(wait, "too many wrong tokens from this address")
	}
	answer, err := ask()
	if errors.Is(err, devices.ErrUnauthenticated) {
		a.limits.failed(address)
		return none, huma.Error401Unauthorized("the token or session is none, or no longer one")
	}
	return answer, a.explain(request.Context(), err)
}

// tooMany is a refusal for some time.
func tooMany(wait time.Duration, why string) error {
	seconds := strconv.Itoa(int((wait + time.Second - 1) / time.Second))
	return huma.ErrorWithHeaders(huma.Error429TooManyRequests(why), http.Header{"Retry-After": {seconds}})
}

// peerOf is who sent a request; the zero Addr if nobody knows.
func peerOf(request *http.Request) netip.Addr {
	peer, err := netip.ParseAddrPort(request.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return peer.Addr()
}

// householdOf is what counts as one address: of IPv6 the /64, which is what one
// customer has. All that are unknown count as one.
func householdOf(address netip.Addr) netip.Addr {
	address = address.Unmap()
	if address.Is6() {
		prefix, _ := address.Prefix(64) // 64 bits fit
		return prefix.Addr()
	}
	return address
}

// The limits of requests and of wrong secrets.
const (
	requestsPerSecond, requestsAtOnce = 50, 200 // of one user
	failuresPerMinute, failuresAtOnce = 10, 20  // of one address
	remembered                        = 10_000  // users and addresses each
)

// limits remembers who asks how often. What is forgotten first is what was seen
// least recently.
type limits struct {
	now       func() time.Time // time.Now; a test's, which stands still
	mu        sync.Mutex
	users     *simplelru.LRU[int32, *rate.Limiter]
	addresses *simplelru.LRU[netip.Addr, *rate.Limiter]
}

func newLimits() *limits {
	l := &limits{now: time.Now}
	// The only error is a size below 1.
	l.users, _ = simplelru.NewLRU[int32, *rate.Limiter](remembered, nil)
	l.addresses, _ = simplelru.NewLRU[netip.Addr, *rate.Limiter](remembered, nil)
	return l
}

func limiterOf[K comparable](of *simplelru.LRU[K, *rate.Limiter], key K, perSecond rate.Limit, atOnce int) *rate.Limiter {
	limiter, ok := of.Get(key)
	if !ok {
		limiter = rate.NewLimiter(perSecond, atOnce)
		of.Add(key, limiter)
	}
	return limiter
}

func (l *limits) request(user int32) (wait time.Duration, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	limiter := limiterOf(l.users, user, requestsPerSecond, requestsAtOnce)
	return time.Second, limiter.AllowN(l.now(), 1)
}

// mayFail says whether an address may be wrong once more.
func (l *limits) mayFail(address netip.Addr) (wait time.Duration, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	limiter, known := l.addresses.Peek(address)
	return time.Minute / failuresPerMinute, !known || limiter.TokensAt(l.now()) >= 1
}

func (l *limits) failed(address netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	limiterOf(l.addresses, address, rate.Every(time.Minute/failuresPerMinute), failuresAtOnce).AllowN(l.now(), 1)
}
