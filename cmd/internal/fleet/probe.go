package fleet

import (
	"context"
	"crypto/tls"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"mooring/cmd/internal/conform"
	"mooring/wire"
)

// ProbeConfig says what Probe probes.
type ProbeConfig struct {
	URL   string // the server's endpoint
	TLS   *tls.Config
	Token string // of a device that is used for nothing else meanwhile
	// LimitedToken is that of another such device, one with a quota of rows, which
	// is exceeded. Defaults to none: then what holds for quotas is not shown.
	LimitedToken string
	// Drain has the server stop and returns when it has. It is called last. Defaults
	// to nothing: then what holds for a server that stops is not shown.
	Drain func(ctx context.Context) error
	// Checks names the rules to check; some hold for all of them. Defaults to all.
	Checks []string
	// OnCheck is told how far it is. Defaults to nothing.
	OnCheck func(done, all int)
}

// probeLayout is the layout of the rows that a probe leaves in the database.
const probeLayout = "fleet-probe"

// probeTries is how often a check is done when something else came between.
const probeTries = 3

// verdict is what a check saw.
type verdict struct {
	state  conform.State
	detail string
}

func kept(format string, args ...any) verdict {
	return verdict{conform.Kept, fmt.Sprintf(format, args...)}
}

func broken(format string, args ...any) verdict {
	return verdict{conform.Broken, fmt.Sprintf(format, args...)}
}

func notShown(format string, args ...any) verdict {
	return verdict{conform.NotShown, fmt.Sprintf(format, args...)}
}

// judged is kept, or broken as told.
func judged(good bool, format string, args ...any) verdict {
	if good {
		return kept("")
	}
	return broken(format, args...)
}

// check is one rule of a server.
type check struct {
	conform.Rule

	do func(ctx context.Context, p *probe) verdict
	// beside says that it needs neither device nor encoder, and is done beside the others.
	beside bool
}

// probe plays one device. All of it happens on one goroutine.
type probe struct {
	in     *intruder
	device *device
	seq    uint64 // below it, numbers have been used
	always map[string]verdict
}

// Names of the rules that every check looks at.
const (
	alwaysWelcome = "welcome-first"
	alwaysSize    = "message-size"
	alwaysAck     = "ack-what-was-sent"
	alwaysRead    = "frames-can-be-read"
)

// Probe holds a server against the protocol, by playing devices that do right and
// wrong. What only the database can tell, that acknowledged rows are stored, and
// once, is for Verify. The error says that the server could not be reached.
func Probe(ctx context.Context, cfg ProbeConfig) (conform.Report, error) {
	began := time.Now()
	p := newProbe(&cfg, cfg.Token)
	line, err := p.open(ctx, &wire.Hello{})
	if err != nil {
		return conform.Report{}, err
	}
	if line.close(); line.fault != nil {
		return conform.Report{}, fmt.Errorf("the server did not answer HELLO with WELCOME: %w", line.fault)
	}
	checks, err := cfg.chosen()
	if err != nil {
		return conform.Report{}, err
	}
	var limited []conform.Finding
	q := newProbe(&cfg, cfg.LimitedToken)
	var other sync.WaitGroup
	defer other.Wait() // ctx has ended, or it is waited for below
	if cfg.LimitedToken != "" {
		other.Go(func() { limited = probeQuota(ctx, q) })
	}
	list := make([]conform.Finding, len(checks), len(checks)+len(alwaysRules))
	note := func(at int, seen verdict) {
		list[at] = conform.Finding{Rule: checks[at].Rule, State: seen.state, Detail: seen.detail}
	}
	for i, check := range checks {
		if check.beside {
			other.Go(func() { note(i, check.do(ctx, p)) })
			continue
		}
		note(i, p.try(ctx, check))
		if ctx.Err() != nil {
			return conform.Report{}, context.Cause(ctx)
		}
		if cfg.OnCheck != nil {
			cfg.OnCheck(i+1, len(checks))
		}
	}
	other.Wait()
	list = append(list, limited...)
	if cfg.Drain != nil && ctx.Err() == nil {
		list = append(list, probeDrain(ctx, p, cfg.Drain)...)
	}
	if ctx.Err() != nil {
		return conform.Report{}, context.Cause(ctx)
	}
	for _, rule := range alwaysRules {
		seen := p.always[rule.ID]
		if also := q.always[rule.ID]; also.state == conform.Broken {
			seen = also
		}
		list = append(list, conform.Finding{Rule: rule, State: seen.state, Detail: seen.detail})
	}
	return conform.NewReport(list, time.Since(began)), nil
}

// newProbe plays the device with this token.
func newProbe(cfg *ProbeConfig, token string) *probe {
	return &probe{
		in:     newIntruder(&run{cfg: Config{URL: cfg.URL, TLS: cfg.TLS, Seed: rand.Uint64()}}, 0), //nolint:gosec // numbers that were not used before
		device: &device{token: Credential{Token: token}},
		seq:    uint64(time.Now().Unix()) << 16,
		always: map[string]verdict{},
	}
}

// chosen are the checks to do.
func (c *ProbeConfig) chosen() ([]check, error) {
	all := append(probeChecks(), badInputChecks()...)
	if len(c.Checks) == 0 {
		return all, nil
	}
	var chosen []check
	for _, id := range c.Checks {
		at := slices.IndexFunc(all, func(of check) bool { return of.ID == id })
		if at < 0 {
			return nil, fmt.Errorf("there is no check %q", id)
		}
		chosen = append(chosen, all[at])
	}
	return chosen, nil
}

var alwaysRules = []conform.Rule{
	{ID: alwaysWelcome, Clause: "§6.1", Text: "sends WELCOME before any other frame"},
	{ID: alwaysSize, Clause: "§2.6", Text: "sends no message larger than max_rx, nor than 1,024 bytes"},
	{ID: alwaysAck, Clause: "§1.1, §6.2", Text: "acknowledges only what was sent, and never less than before"},
	{ID: alwaysRead, Clause: "§3", Text: "sends frames that can be read, whole and unmasked"},
}

// note adds to a rule that every check looks at; a broken one stays so.
func (p *probe) note(id string, good bool, format string, args ...any) {
	if p.always[id].state != conform.Broken {
		p.always[id] = judged(good, format, args...)
	}
}

// try does a check, again if something else came between.
func (p *probe) try(ctx context.Context, check check) verdict {
	var seen verdict
	for range probeTries {
		seen = check.do(ctx, p)
		if seen.state != conform.NotShown || ctx.Err() != nil {
			break
		}
	}
	return seen
}

// badInputChecks are the inputs of PROTOCOL §11.
func badInputChecks() []check {
	inputs := badInputs()
	checks := make([]check, 0, len(inputs))
	for _, input := range inputs {
		rule := conform.Rule{
			ID:     strings.ToLower(input.line) + "-" + strings.ReplaceAll(strings.ReplaceAll(input.text, ",", ""), " ", "-"),
			Clause: "§11 " + input.line, Text: "answers as stated: " + input.text,
		}
		checks = append(checks, check{Rule: rule, do: func(ctx context.Context, p *probe) verdict {
			switch result, detail := p.in.input(ctx, p.device, input); result {
			case asStated:
				return kept("")
			case disturbed:
				if detail != "" {
					return broken("%s", detail)
				}
				sleep(ctx, time.Second)
				return notShown("the connection was refused or ended for another reason, %d times", probeTries)
			default:
				return broken("%s", detail)
			}
		}})
	}
	return checks
}

func sleep(ctx context.Context, span time.Duration) {
	timer := time.NewTimer(span)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
