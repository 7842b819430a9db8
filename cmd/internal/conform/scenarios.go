package conform

import "net/http"

// scenario is a script that one program, started afresh, is put through.
type scenario struct {
	name  string
	rules []string // that it looks at, for the reason why one is not shown
	play  func(*stage)
	// programs is how many are started, each with a stage of its own; 0: one.
	programs int
	// refusal is how every handshake is answered, from the first on.
	refusal refusal
}

// scenarios are all of them, the long ones first.
var scenarios = []scenario{
	{name: "two faults", rules: []string{ruleFault, rulePoison, ruleGap, ruleGoAwayStops}, play: playFaults},
	{name: "failing again and again", rules: []string{ruleBackoffBound, ruleBackoffGrows, ruleBackoffSpread}, play: playFailures, programs: backoffPrograms},
	{name: "refused with 401", rules: []string{ruleUnauthorized}, play: playUnauthorized, refusal: refusal{http.StatusUnauthorized, "WWW-Authenticate: Bearer\r\n"}},
	{name: "refused with 503", rules: []string{ruleRetryAfter}, play: playBusy, refusal: refusal{http.StatusServiceUnavailable, "Retry-After: 45\r\n"}},
	{name: "replaced", rules: []string{ruleLater}, play: playReplaced},
	{name: "disabled", rules: []string{ruleTerminal}, play: playDisabled},
	{name: "a silent server", rules: []string{ruleSilence}, play: playSilence},
	{name: "late acks", rules: []string{rulePatience, rulePing}, play: playLateAcks},
	{name: "going away", rules: []string{ruleGoAwayStops, ruleGoAwayLeaves, ruleGoAwaySlot}, play: playGoAway},
	{name: "throttle", rules: []string{ruleThrottle}, play: playThrottle},
	{name: "reconnects", rules: []string{ruleResend, ruleKeeps, ruleForgets, ruleSameRow, ruleRetry, ruleGoesOn, ruleBootID, ruleFinal}, play: playReconnects},
	{name: "window", rules: []string{ruleWindow, ruleWindowZero, ruleParams, ruleBeforeWelcome, ruleRising}, play: playWindow},
	{name: "large frames", rules: []string{ruleMaxFrame}, play: playLargeFrames},
	{name: "layouts", rules: []string{ruleNeedLayout, ruleLayoutRejected}, play: playLayouts},
	{name: "frames of later versions", rules: []string{ruleUnknownFields, ruleUnknownFrames, ruleUnknownNotice}, play: playLaterVersions},
	{name: "bad frames", rules: []string{ruleUnknownCritical, ruleBadFrame}, play: playBadFrames},
	{name: "command", rules: []string{ruleCommand}, play: playCommand},
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
		s.none(of.rules, "the program did not connect within %s", millis(startPatience))
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
