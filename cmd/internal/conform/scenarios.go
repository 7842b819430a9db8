package conform

import "net/http"

// scenario is a script that one program, started afresh, is put through.
type scenario struct {
	name  string
	rules []string // that it looks at, for the reason why one is not shown
	play  func(*stage)
	// programs is how many are started, each with a stage of its own; 0: one.
	programs int
	// together judges what all of them did.
	together func([]*stage)
	// refusals are how handshakes are answered, one after the other; the last one
	// answers all that follow.
	refusals []refusal
	// certificates are what the programs see, each one of them; none: no TLS.
	certificates []certificate
}

// scenarios are all of them, the long ones first.
var scenarios = []scenario{
	{name: "two faults", rules: []string{ruleFault, rulePoison, ruleGap, ruleGoAwayStops}, play: playFaults},
	{name: "refused with 400 and 426", rules: []string{ruleBadHandshake}, play: playBadHandshake, refusals: []refusal{{http.StatusBadRequest, ""}, {http.StatusUpgradeRequired, "Upgrade: websocket\r\n"}}},
	{name: "failing again and again", rules: []string{ruleBackoffBound, ruleBackoffGrows, ruleBackoffSpread, ruleSpreadZero}, play: playFailures, programs: backoffPrograms, together: judgeSpread},
	{name: "refused with 401", rules: []string{ruleUnauthorized}, play: playUnauthorized, refusals: []refusal{{http.StatusUnauthorized, "WWW-Authenticate: Bearer\r\n"}}},
	{name: "refused with 503", rules: []string{ruleRetryAfter}, play: playBusy, refusals: []refusal{{http.StatusServiceUnavailable, "Retry-After: 45\r\n"}}},
	{name: "refused with 502", rules: []string{ruleRetryAfterBound}, play: playBadGateway, refusals: []refusal{{http.StatusBadGateway, "Retry-After: 12\r\n"}}},
	{name: "replaced", rules: []string{ruleLater}, play: playReplaced},
	{name: "disabled", rules: []string{ruleTerminal}, play: playDisabled},
	{name: "a silent server", rules: []string{ruleSilence}, play: playSilence},
	{name: "late acks", rules: []string{rulePatience, rulePing}, play: playLateAcks},
	{name: "going away", rules: []string{ruleGoAwayStops, ruleGoAwayLeaves, ruleGoAwaySlot, ruleGoAwayNarrow}, play: playGoAway},
	{name: "quota", rules: []string{ruleQuotaWait}, play: playQuota},
	{name: "an unlisted code", rules: []string{ruleUnlisted}, play: playUnlisted},
	{name: "throttle", rules: []string{ruleThrottle}, play: playThrottle},
	{name: "reconnects", rules: []string{ruleResend, ruleKeeps, ruleForgets, ruleSameRow, ruleRetry, ruleGoesOn, ruleBootID, ruleFinal}, play: playReconnects},
	{name: "window", rules: []string{ruleWindow, ruleWindowZero, ruleParams, ruleBeforeWelcome, ruleRising}, play: playWindow},
	{name: "large frames", rules: []string{ruleMaxFrame}, play: playLargeFrames},
	{name: "layouts", rules: []string{ruleNeedLayout, ruleLayoutRejected}, play: playLayouts},
	{name: "frames of later versions", rules: []string{ruleUnknownFields, ruleUnknownFrames, ruleUnknownNotice, ruleWidths, ruleAckOfSent}, play: playLaterVersions},
	{name: "bad frames", rules: []string{ruleUnknownCritical, ruleBadFrame, ruleText}, play: playBadFrames},
	{name: "command", rules: []string{ruleCommand, ruleCommandAgain, ruleCommandTTL}, play: playCommand},
	{name: "wrong certificates", rules: []string{ruleTLSCheck}, play: playWrongCertificate, programs: 3, certificates: []certificate{ofNobody, forAnother, outOfDate}},
	{name: "over TLS", rules: []string{ruleTLS}, play: playTLS, certificates: []certificate{good}},
}

// always are the rules that every scenario looks at.
var always = []string{
	ruleEndpoint, ruleSubprotocol, ruleCredential, ruleFragments, ruleFirstFrame, ruleWebSocket,
	ruleWellFormed, ruleHelloFirst, ruleLayoutFirst, ruleTimes, ruleControlRate,
}

// begin waits for the program's first connection, welcomes it and waits for so
// many frames of rows; nil: it did not come so far, which is noted.
func (s *stage) begin(of scenario, frames int) *line {
	l := s.accept(startPatience)
	if l == nil {
		s.none(of.rules, "the program did not connect")
		return nil
	}
	l.welcome(nil)
	if !s.enough(l, of.rules, frames) {
		return nil
	}
	return l
}

// enough waits for so many frames in all on a connection.
func (s *stage) enough(l *line, needed []string, frames int) bool {
	if l.await(frames, patience) {
		return true
	}
	s.none(needed, "%d frames of rows came on connection %d within %s, not %d", len(l.sent()), l.number, millis(patience), frames)
	return false
}

// none notes why rules could not be shown.
func (s *stage) none(ids []string, format string, args ...any) {
	for _, id := range ids {
		s.notShown(id, format, args...)
	}
}
