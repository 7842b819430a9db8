package conform

// Rule is one thing that docs/PROTOCOL.md asks of a device.
type Rule struct {
	ID     string `json:"id"`
	Clause string `json:"clause"` // of docs/PROTOCOL.md
	Text   string `json:"text"`   // what the device does that keeps it
	Should bool   `json:"should"` // SHOULD; else MUST
}

// Rules are all of them, in the order of the protocol's text.
func Rules() []Rule { return append([]Rule(nil), rules...) }

// The rules' names, by which scenarios report.
const (
	ruleEndpoint        = "endpoint"
	ruleTLS             = "tls"
	ruleTLSCheck        = "tls-check"
	ruleSubprotocol     = "subprotocol"
	ruleCredential      = "credential"
	ruleFragments       = "fragments"
	ruleBeforeWelcome   = "before-welcome"
	ruleFirstFrame      = "first-frame"
	ruleWebSocket       = "websocket"
	ruleWellFormed      = "well-formed"
	ruleUnknownFields   = "unknown-fields"
	ruleWidths          = "widths"
	ruleUnknownFrames   = "unknown-frames"
	ruleUnknownCritical = "unknown-critical"
	ruleBadFrame        = "bad-frame"
	ruleText            = "text"
	ruleHelloFirst      = "hello-first"
	ruleBootID          = "boot-id"
	ruleLayoutFirst     = "layout-first"
	ruleSameRow         = "same-row"
	ruleTimes           = "times"
	ruleMaxFrame        = "max-frame"
	ruleAckOfSent       = "ack-of-sent"
	ruleCommand         = "command"
	ruleCommandAgain    = "command-again"
	ruleCommandTTL      = "command-ttl"
	ruleThrottle        = "throttle"
	ruleParams          = "params"
	ruleLayoutRejected  = "layout-rejected"
	ruleNeedLayout      = "need-layout"
	ruleUnknownNotice   = "unknown-notice"
	ruleFinal           = "refused-for-good"
	ruleQuotaWait       = "quota-wait"
	ruleRising          = "rising"
	ruleGoesOn          = "numbers-go-on"
	ruleGap             = "gap"
	ruleWindow          = "window"
	ruleWindowZero      = "window-zero"
	rulePatience        = "late-ack"
	ruleResend          = "resend"
	ruleKeeps           = "keeps-rows"
	ruleForgets         = "acked-forgotten"
	rulePing            = "ping"
	ruleSilence         = "silence"
	ruleControlRate     = "control-rate"
	ruleRetry           = "retry"
	ruleBackoffBound    = "backoff-bound"
	ruleBackoffGrows    = "backoff-grows"
	ruleBackoffSpread   = "backoff-spread"
	ruleSpreadZero      = "spread-zero"
	ruleLater           = "later"
	ruleFault           = "fault-wait"
	ruleTerminal        = "terminal"
	ruleUnauthorized    = "unauthorized"
	ruleRetryAfter      = "retry-after"
	ruleRetryAfterBound = "retry-after-bound"
	ruleBadHandshake    = "bad-handshake"
	ruleUnlisted        = "unlisted-code"
	ruleGoAwayStops     = "goaway-stops"
	ruleGoAwayLeaves    = "goaway-leaves"
	ruleGoAwaySlot      = "goaway-slot"
	ruleGoAwayNarrow    = "goaway-narrow"
	rulePoison          = "poison"
)

var rules = []Rule{
	{ID: ruleEndpoint, Clause: "§2.1", Text: "asks for /v1/stream with a WebSocket handshake"},
	{ID: ruleTLS, Clause: "§2.1", Text: "speaks TLS to a server whose certificate is of an authority that it trusts"},
	{ID: ruleTLSCheck, Clause: "§2.1", Text: "asks nothing of a server whose certificate is of an unknown authority, for another host, or out of date"},
	{ID: ruleSubprotocol, Clause: "§2.2", Text: "offers the subprotocol mooring.v1", Should: true},
	{ID: ruleCredential, Clause: "§2.3", Text: "brings exactly one credential, and none in the URL"},
	{ID: ruleFragments, Clause: "§2.6, §8.5", Text: "a message has at most 1,024 fragments"},
	{ID: ruleBeforeWelcome, Clause: "§2.7", Text: "sends at most 4 DATA frames before WELCOME"},
	{ID: ruleFirstFrame, Clause: "§2.7", Text: "sends its first frame within 10 s"},
	{ID: ruleWebSocket, Clause: "§2.1", Text: "masks its frames, sends binary messages, sets no reserved bits"},
	{ID: ruleWellFormed, Clause: "§3 to §5", Text: "every frame can be read and has values its fields allow"},
	{ID: ruleUnknownFields, Clause: "§3.2", Text: "ignores elements behind those it knows"},
	{ID: ruleWidths, Clause: "§3.3", Text: "takes integers and headers of any width"},
	{ID: ruleUnknownFrames, Clause: "§3.6", Text: "ignores unknown frames of types 32 to 127"},
	{ID: ruleUnknownCritical, Clause: "§3.6", Text: "closes with 4203 at an unknown critical type"},
	{ID: ruleBadFrame, Clause: "§3", Text: "closes with 4200 at a server's frame that is at fault"},
	{ID: ruleText, Clause: "§3.1, M2", Text: "closes with 4204 at a text message"},
	{ID: ruleHelloFirst, Clause: "§4.1", Text: "sends HELLO once, before any other frame, or not at all"},
	{ID: ruleBootID, Clause: "§4.1, §8.1", Text: "keeps its boot_id while it runs and has another one at the next start"},
	{ID: ruleLayoutFirst, Clause: "§4.2, §8.3.2", Text: "declares a layout on every connection before its rows"},
	{ID: ruleSameRow, Clause: "§5.5.3", Text: "sends a row again with the same time and the same values"},
	{ID: ruleTimes, Clause: "§5.8", Text: "gives rows times of the present"},
	{ID: ruleMaxFrame, Clause: "§6.1", Text: "sends no message larger than max_frame, of WELCOME or PARAMS"},
	{ID: ruleAckOfSent, Clause: "§6.2", Text: "takes no ACK for rows that it has not sent on this connection"},
	{ID: ruleCommand, Clause: "§6.3", Text: "answers a COMMAND with a RESULT, UNKNOWN if it does not know it"},
	{ID: ruleCommandAgain, Clause: "§6.3", Text: "answers a command with the idempotent flag as often as it is delivered"},
	{ID: ruleCommandTTL, Clause: "§6.3", Text: "answers in time, or says EXPIRED or BUSY"},
	{ID: ruleThrottle, Clause: "§6.4", Text: "leaves the gap between DATA frames that THROTTLE asks for"},
	{ID: ruleParams, Clause: "§6.4", Text: "takes over the window that PARAMS gives"},
	{ID: ruleLayoutRejected, Clause: "§6.4", Text: "sends no rows of a layout that LAYOUT_REJECTED refused"},
	{ID: ruleNeedLayout, Clause: "§6.4, §7.2", Text: "declares the layout that NEED_LAYOUT asks for before its next rows"},
	{ID: ruleUnknownNotice, Clause: "§6.4", Text: "ignores a NOTICE of an unknown kind"},
	{ID: ruleFinal, Clause: "§7.1, §7.3", Text: "never sends again what was refused with a code below 64, also one that it does not know"},
	{ID: ruleQuotaWait, Clause: "§7.2", Text: "waits 10 s before it sends again what was refused with QUOTA, if it does", Should: true},
	{ID: ruleRising, Clause: "§8.1, §8.3.1", Text: "sequence numbers rise within a connection; nothing is sent twice on it"},
	{ID: ruleGoesOn, Clause: "§8.1", Text: "sequence numbers go on across reconnects", Should: true},
	{ID: ruleGap, Clause: "§8.1, §8.3.3", Text: "rows that it gave up leave a gap: their numbers are not used again"},
	{ID: ruleWindow, Clause: "§8.2", Text: "never has more DATA frames unacknowledged than the window"},
	{ID: ruleWindowZero, Clause: "§8.2", Text: "stops at window 0, goes on when an ACK opens it"},
	{ID: rulePatience, Clause: "§8.3.1", Text: "stays on a connection whose acks are late"},
	{ID: ruleResend, Clause: "§8.3.2", Text: "begins after a reconnect with its oldest unsettled row"},
	{ID: ruleKeeps, Clause: "§8.3.3", Text: "sends every unsettled row again after a short loss of the connection"},
	{ID: ruleForgets, Clause: "§8.3.2", Text: "never sends acknowledged rows again"},
	{ID: rulePing, Clause: "§8.4.2", Text: "answers WebSocket Pings, empty and not, with the same payload"},
	{ID: ruleSilence, Clause: "§8.4.2", Text: "takes the link for dead after 2·hb of silence, not before"},
	{ID: ruleControlRate, Clause: "§8.5", Text: "sends no more than 20 frames a second other than DATA, 400 at once"},
	{ID: ruleRetry, Clause: "§9.2 R", Text: "comes back soon after a broken line or a close of class R"},
	{ID: ruleBackoffBound, Clause: "§9.2 R", Text: "waits at most spread·2^n after n failures in a row"},
	{ID: ruleBackoffGrows, Clause: "§9.2 R", Text: "waits longer and longer when it fails again and again"},
	{ID: ruleBackoffSpread, Clause: "§9.2 R", Text: "waits at random: several devices do not come back together"},
	{ID: ruleSpreadZero, Clause: "§9.2", Text: "takes a spread of 0 for 1 s"},
	{ID: ruleLater, Clause: "§9.2 L", Text: "stays away for a minute after a close of class L"},
	{ID: ruleFault, Clause: "§9.2 F", Text: "stays away for 10 s after a close of class F"},
	{ID: ruleTerminal, Clause: "§9.2 T", Text: "stays away after a close of class T"},
	{ID: ruleUnauthorized, Clause: "§9.2 T", Text: "does not hammer a server that answers 401"},
	{ID: ruleRetryAfter, Clause: "§9.2 L", Text: "stays away after 503 with Retry-After"},
	{ID: ruleRetryAfterBound, Clause: "§9.2 R", Text: "takes Retry-After for a lower bound, after 502 too, and comes back then"},
	{ID: ruleBadHandshake, Clause: "§9.2 F", Text: "stays away for 10 s after 400 and 426, and comes back"},
	{ID: ruleUnlisted, Clause: "§9.1", Text: "takes a close code that is not listed for one of its hundred"},
	{ID: ruleGoAwayStops, Clause: "§9.3", Text: "sends no new DATA after GOAWAY"},
	{ID: ruleGoAwayLeaves, Clause: "§9.3", Text: "waits for its acks after GOAWAY and closes with 1000", Should: true},
	{ID: ruleGoAwaySlot, Clause: "§9.3", Text: "comes back within the slot that the last GOAWAY gave, not before"},
	{ID: ruleGoAwayNarrow, Clause: "§9.3", Text: "takes a slot without width for one of 1 s, and waits for it"},
	{ID: rulePoison, Clause: "§9.4", Text: "drops its oldest frame after two closes of class F in a row, and not after one"},
}
