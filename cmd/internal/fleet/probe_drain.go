package fleet

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"mooring/cmd/internal/conform"
	"mooring/wire"
)

// drainPatience is how long after the order to stop a server may be quiet.
const drainPatience = 15 * time.Second

// Rules of a server that stops.
var (
	ruleAnnounced = conform.Rule{ID: "drain-announced", Clause: "§9.3", Text: "sends GOAWAY with code 4000, a grace and a slot before it stops"}
	ruleTurnsAway = conform.Rule{ID: "drain-refuses", Clause: "§2.4, H13", Text: "answers new handshakes with 503 and Retry-After, or not at all, while it stops"}
	ruleSettles   = conform.Rule{ID: "drain-settles", Clause: "§9.3, §11", Text: "acknowledges what was sent before its GOAWAY"}
	ruleGrace     = conform.Rule{ID: "drain-grace", Clause: "§9.3", Text: "closes with 4000 when the grace is over, not before"}
)

// probeDrain has the server stop, by order, while a device is connected that stays
// as long as it may.
func probeDrain(ctx context.Context, p *probe, order func(context.Context) error) []conform.Finding {
	var list []conform.Finding
	found := func(rule conform.Rule, seen verdict) {
		list = append(list, conform.Finding{Rule: rule, State: seen.state, Detail: seen.detail})
	}
	seen := p.with(ctx, wire.Hello{}, func(l *probeLine) verdict {
		for range 3 {
			l.rows(1)
		}
		ordered := make(chan error, 1)
		stopping, end := context.WithCancel(ctx)
		defer end()
		go func() { ordered <- order(stopping) }() // waited for below
		given := time.Now()
		announced := l.until(drainPatience, func() bool { return l.goAway != 0 })
		told := time.Now()
		if announced {
			found(ruleAnnounced, judgeFarewell(l.socket.farewell))
			found(ruleTurnsAway, p.turnedAway(ctx))
			grace := time.Duration(l.socket.farewell.GraceMillis) * time.Millisecond
			l.until(grace+drainPatience, func() bool { return false })
			found(ruleSettles, judged(l.acked >= l.sent, "rows before %d were acknowledged, not %d", l.acked, l.sent))
			stayed := time.Since(told)
			found(ruleGrace, measured(l.code == wire.CloseDrain && stayed > grace-500*time.Millisecond,
				"close %d after %.1f s, the grace was %.1f s", l.code, stayed.Seconds(), grace.Seconds()))
		}
		if err := <-ordered; err != nil {
			return notShown("the order to stop failed: %v", err)
		}
		if !announced {
			return broken("no GOAWAY within %s of the order to stop; close %d", time.Since(given).Round(time.Second), l.code)
		}
		return kept("")
	})
	for _, rule := range []conform.Rule{ruleAnnounced, ruleTurnsAway, ruleSettles, ruleGrace}[len(list):] {
		found(rule, seen)
		seen = notShown("no GOAWAY came")
	}
	return list
}

// measured is judged, with what is worth telling of a rule that is kept, too.
func measured(good bool, format string, args ...any) verdict {
	if good {
		return kept(format, args...)
	}
	return broken(format, args...)
}

// judgeFarewell judges the GOAWAY of a server that stops.
func judgeFarewell(goAway wire.Notice) verdict {
	said := fmt.Sprintf("code %d, grace %d ms, slot %d to %d ms", goAway.Code, goAway.GraceMillis, goAway.MinMillis, goAway.MaxMillis)
	return measured(goAway.Code == wire.CloseDrain && goAway.GraceMillis > 0 && goAway.MaxMillis > goAway.MinMillis, "%s", said)
}

// turnedAway asks for a connection of a server that stops.
func (p *probe) turnedAway(ctx context.Context) verdict {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	socket, answered, err := rawDial(ctx, p.in.run.cfg.URL, p.in.run.cfg.TLS, newHandshake(p.device.token.Token))
	switch {
	case err != nil:
		return kept("no answer: %v", err)
	case socket != nil:
		socket.close()
		return broken("it took a new connection")
	}
	after, err := strconv.Atoi(answered.header.Get("Retry-After"))
	return measured(answered.status == http.StatusServiceUnavailable && err == nil && after > 0,
		"HTTP %d, Retry-After %q", answered.status, answered.header.Get("Retry-After"))
}
