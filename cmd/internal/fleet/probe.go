package fleet

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
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

// probeLine is a connection of the probe.
type probeLine struct {
	probe   *probe
	socket  *rawSocket
	header  http.Header // of the answer to the handshake
	maxRx   int
	welcome wire.Welcome
	sent    uint64 // rows before it were sent
	acked   uint64
	acks    []wire.Ack
	notices []wire.Notice
	pongs   []wire.Pong
	greeted bool
	goAway  wire.CloseCode
	code    wire.CloseCode // of the end; 0: it lives
	fault   error
}

var errNoWelcome = errors.New("no WELCOME came")

// dial makes the handshake, changed by change; a line without a socket was refused.
func (p *probe) dial(ctx context.Context, change func(*handshake)) (*probeLine, int, error) {
	ask := newHandshake(p.device.token.Token)
	if change != nil {
		change(&ask)
	}
	ctx, cancel := context.WithTimeout(ctx, 2*patience)
	defer cancel()
	socket, answered, err := rawDial(ctx, p.in.run.cfg.URL, p.in.run.cfg.TLS, ask)
	if err != nil {
		return nil, 0, err
	}
	status := answered.status
	if socket == nil {
		return nil, status, nil
	}
	return &probeLine{probe: p, socket: socket, header: answered.header, maxRx: 1024, sent: p.seq, acked: 0}, status, nil
}

// open connects, says HELLO if there is one, and waits for WELCOME.
func (p *probe) open(ctx context.Context, hello *wire.Hello) (*probeLine, error) {
	line, status, err := p.dial(ctx, nil)
	for range probeTries {
		if status != http.StatusServiceUnavailable && status != http.StatusTooManyRequests {
			break
		}
		sleep(ctx, time.Second)
		line, status, err = p.dial(ctx, nil)
	}
	switch {
	case err != nil:
		return nil, fmt.Errorf("connect to %s: %w", p.in.run.cfg.URL, err)
	case line == nil:
		return nil, fmt.Errorf("connect to %s: HTTP %d", p.in.run.cfg.URL, status)
	}
	if hello.MaxReceive > 0 {
		line.maxRx = min(hello.MaxReceive, 1024)
	}
	line.send(p.in.encoder.Hello(*hello))
	if !line.until(patience, func() bool { return line.greeted }) && line.fault == nil {
		line.fault = errNoWelcome
	}
	return line, nil
}

// with opens a connection, declares a layout of one number and one text under 1,
// does something there and closes.
func (p *probe) with(ctx context.Context, hello wire.Hello, do func(l *probeLine) verdict) verdict {
	if hello.BootID == 0 {
		hello.BootID = p.in.random.Uint32() | 1
	}
	line, err := p.open(ctx, &hello)
	if err != nil {
		return notShown("%v", err)
	}
	defer line.close()
	if line.fault != nil {
		return notShown("%v", line.fault)
	}
	line.send(p.in.encoder.Layout(&wire.Layout{Number: 1, Name: probeLayout, Channels: probeChannels()}))
	return do(line)
}

func probeChannels() []wire.Channel {
	return []wire.Channel{{Name: "number", Unit: "1"}, {Name: "text", Kind: wire.KindText}}
}

func (l *probeLine) close() { l.socket.close() }

// send writes a message. What can't be written shows when reading.
func (l *probeLine) send(frame []byte) { _ = l.socket.send(frame) }

// rows sends a DATA frame of n good rows behind those sent.
func (l *probeLine) rows(n int) {
	values := make([]wire.Value, n)
	for i := range values {
		values[i] = wire.Value{Kind: wire.ValueNumber, Number: float64(i)}
	}
	l.values(values...)
}

// values sends a DATA frame with a row for each of these, and gives the first one's
// number.
func (l *probeLine) values(values ...wire.Value) (seq uint64) {
	seq = l.sent
	l.again(seq, values...)
	l.sent = seq + uint64(len(values))
	l.probe.seq = max(l.probe.seq, l.sent)
	return seq
}

// again sends rows under given numbers. A number's time is a function of it.
func (l *probeLine) again(seq uint64, values ...wire.Value) {
	data := wire.Data{Seq: seq, Layout: 1}
	for i, value := range values {
		at := int64(seq+uint64(i))>>16*1000 + int64((seq+uint64(i))&0xffff)
		data.Rows = append(data.Rows, wire.Row{Time: at * 1000, Values: []wire.Value{value, {}}})
	}
	frame, err := l.probe.in.encoder.Data(&data)
	if err != nil {
		l.fault = err
		return
	}
	l.sent = max(l.sent, seq+uint64(len(values)))
	l.send(frame)
}

// until reads until what holds, or the connection or the time is over.
func (l *probeLine) until(limit time.Duration, what func() bool) bool {
	for end := time.Now().Add(limit); !what(); {
		if l.code != 0 || l.fault != nil || !time.Now().Before(end) {
			return false
		}
		l.take(l.socket.next(end, l.probe.in.decoder, &l.goAway), end)
	}
	return true
}

// settled waits until all that was sent is acknowledged.
func (l *probeLine) settled() bool {
	return l.until(2*patience, func() bool { return l.acked >= l.sent })
}

// take notes what the server sent, and judges it by the rules that always hold.
func (l *probeLine) take(got answer, end time.Time) {
	p, decoder := l.probe, l.probe.in.decoder
	if got.kind == 0 {
		switch {
		case got.code == 1006 && got.err != nil && !time.Now().Before(end): // nothing came in time
		case errors.Is(got.err, errRawMessage):
			p.note(alwaysRead, false, "%v", got.err)
			l.code = got.code
		default:
			l.code = got.code
		}
		return
	}
	p.note(alwaysSize, len(got.frame) <= l.maxRx, "a frame of type %d with %d bytes, while max_rx is %d", got.kind, len(got.frame), l.maxRx)
	p.note(alwaysWelcome, l.greeted || got.kind == wire.FrameWelcome, "a frame of type %d came first", got.kind)
	var err error
	switch got.kind {
	case wire.FrameWelcome:
		l.welcome, err = decoder.Welcome(got.frame)
		l.greeted = true
	case wire.FrameAck:
		var ack wire.Ack
		ack, err = decoder.Ack(got.frame)
		p.note(alwaysAck, ack.Next <= l.sent && ack.Next >= l.acked, "next is %d, after %d; rows before %d were sent", ack.Next, l.acked, l.sent)
		l.acked = max(l.acked, ack.Next)
		l.acks = append(l.acks, ack)
	case wire.FrameNotice:
		var notice wire.Notice
		notice, err = decoder.Notice(got.frame)
		l.notices = append(l.notices, notice)
	case wire.FramePong:
		var pong wire.Pong
		pong, err = decoder.Pong(got.frame)
		l.pongs = append(l.pongs, pong)
	case wire.FrameCommand:
		_, err = decoder.Command(got.frame)
	default:
	}
	p.note(alwaysRead, err == nil, "%v", err)
}

// rejects gathers the refusals of all acks.
func (l *probeLine) rejects() (list []wire.Reject, rejected uint64) {
	for i := range l.acks {
		list = wire.AppendRejects(list, l.acks[i].Rejects)
		rejected += l.acks[i].Rejected
	}
	return list, rejected
}

// allStored judges that everything was acknowledged without a refusal.
func (l *probeLine) allStored() verdict {
	if !l.settled() {
		return l.unsettled()
	}
	list, _ := l.rejects()
	return judged(len(list) == 0, "refused: %v", list)
}

// unsettled says why not everything was acknowledged.
func (l *probeLine) unsettled() verdict {
	if l.code != 0 {
		return broken("the server closed with %d (GOAWAY %d)", l.code, l.goAway)
	}
	return broken("rows before %d were acknowledged within %s, not %d", l.acked, 2*patience, l.sent)
}
