package conform

import (
	"slices"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// breakages are devices that break one rule, the scenario that looks at it, and the
// rule that must say so.
var breakages = []struct{ quirk, scenario, rule string }{
	{"another path", "command", ruleEndpoint},
	{"speaks no TLS", "over TLS", ruleTLS},
	{"speaks no TLS", "wrong certificates", ruleTLSCheck},
	{"takes any certificate", "wrong certificates", ruleTLSCheck},
	{"no subprotocol", "command", ruleSubprotocol},
	{"token in the URL", "command", ruleCredential},
	{"no token", "command", ruleCredential},
	{"2,000 fragments", "command", ruleFragments},
	{"no window", "window", ruleBeforeWelcome},
	{"says nothing at first", "command", ruleFirstFrame},
	{"no mask", "command", ruleWebSocket},
	{"text messages", "command", ruleWebSocket},
	{"bytes behind a frame", "command", ruleWellFormed},
	{"chokes on more fields", "frames of later versions", ruleUnknownFields},
	{"chokes on wide headers", "frames of later versions", ruleWidths},
	{"takes any ACK", "frames of later versions", ruleAckOfSent},
	{"chokes on frames it does not know", "frames of later versions", ruleUnknownFrames},
	{"ignores what is critical", "bad frames", ruleUnknownCritical},
	{"ignores bad frames", "bad frames", ruleBadFrame},
	{"takes no notice of texts", "bad frames", ruleText},
	{"HELLO behind LAYOUT", "command", ruleHelloFirst},
	{"one boot_id for all", "failing again and again", ruleBootID},
	{"a boot_id a connection", "reconnects", ruleBootID},
	{"no LAYOUT", "command", ruleLayoutFirst},
	{"LAYOUT once and for all", "two faults", ruleLayoutFirst},
	{"times anew", "reconnects", ruleSameRow},
	{"a clock of 1970", "command", ruleTimes},
	{"a clock of 1944", "command", ruleTimes},
	{"frames of any size", "large frames", ruleMaxFrame},
	{"ignores PARAMS", "large frames", ruleMaxFrame},
	{"no RESULT", "command", ruleCommand},
	{"answers the first command alone", "command", ruleCommandAgain},
	{"answers commands late", "command", ruleCommandTTL},
	{"ignores THROTTLE", "throttle", ruleThrottle},
	{"ignores PARAMS", "window", ruleParams},
	{"sends a refused layout", "layouts", ruleLayoutRejected},
	{"ignores NEED_LAYOUT", "layouts", ruleNeedLayout},
	{"chokes on a notice", "frames of later versions", ruleUnknownNotice},
	{"sends refused rows again", "reconnects", ruleFinal},
	{"takes unknown refusals lightly", "reconnects", ruleFinal},
	{"sends at once what QUOTA refused", "quota", ruleQuotaWait},
	{"sends again when acks are late", "late acks", ruleRising},
	{"numbers from 0", "reconnects", ruleGoesOn},
	{"closes the gap", "two faults", ruleGap},
	{"no window", "window", ruleWindow},
	{"takes window 0 for none", "window", ruleWindowZero},
	{"leaves when acks are late", "late acks", rulePatience},
	{"forgets at a reconnect", "reconnects", ruleResend},
	{"forgets at a reconnect", "reconnects", ruleKeeps},
	{"forgets nothing", "reconnects", ruleForgets},
	{"no Pong", "late acks", rulePing},
	{"empty Pongs", "late acks", rulePing},
	{"never takes a link for dead", "a silent server", ruleSilence},
	{"500 Pings at once", "command", ruleControlRate},
	{"never comes back", "reconnects", ruleRetry},
	{"waits ten seconds", "failing again and again", ruleBackoffBound},
	{"waits one second", "failing again and again", ruleBackoffGrows},
	{"takes a spread of 0 for none", "failing again and again", ruleSpreadZero},
	{"waits without chance", "failing again and again", ruleBackoffSpread},
	{"comes back at once", "replaced", ruleLater},
	{"comes back at once", "two faults", ruleFault},
	{"comes back at once", "disabled", ruleTerminal},
	{"comes back at once", "refused with 401", ruleUnauthorized},
	{"comes back at once", "refused with 503", ruleRetryAfter},
	{"comes back at once", "refused with 502", ruleRetryAfterBound},
	{"comes back at once", "refused with 400 and 426", ruleBadHandshake},
	{"knows listed codes alone", "an unlisted code", ruleUnlisted},
	{"sends after GOAWAY", "going away", ruleGoAwayStops},
	{"leaves before its acks", "going away", ruleGoAwayLeaves},
	{"ignores the slot", "going away", ruleGoAwaySlot},
	{"comes back at once", "going away", ruleGoAwaySlot},
	{"the first GOAWAY counts", "going away", ruleGoAwaySlot},
	{"takes no slot without width", "going away", ruleGoAwayNarrow},
	{"never gives up", "two faults", rulePoison},
	{"gives up after one fault", "two faults", rulePoison},
}

// run plays scenarios with devices that have a quirk, on a network and by a clock of
// their own: what they are judged by are times, and no machine's are to be in them.
func run(t *testing.T, quirk string, cfg Config) (report Report) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		network := &memory{}
		cfg.Start, cfg.listen = quirky(quirk, network), network.listen
		var err error
		report, err = Run(t.Context(), cfg)
		require.NoError(t, err)
	})
	return report
}

// TestBreakages sees that the right rule flags each of these devices. TestClients has
// the scenarios on a real network.
func TestBreakages(t *testing.T) {
	t.Parallel()
	rulesOf := map[[2]string][]string{}
	var covered []string
	for _, of := range breakages {
		which := [2]string{of.quirk, of.scenario}
		rulesOf[which] = append(rulesOf[which], of.rule)
		covered = append(covered, of.rule)
	}
	for _, rule := range Rules() {
		assert.True(t, slices.Contains(covered, rule.ID), "no device breaks %s", rule.ID)
	}
	for which, broken := range rulesOf {
		quirk, scenario := which[0], which[1]
		t.Run(quirk+", "+scenario, func(t *testing.T) {
			t.Parallel()
			report := run(t, quirk, Config{Scenarios: []string{scenario}})
			for _, rule := range broken {
				finding := report.Finding(rule)
				assert.Contains(t, []State{Broken, Departs}, finding.State, "%s: %s", rule, finding.Detail)
			}
		})
	}
}

// TestGoodDevice sees that a device without a quirk keeps every rule.
func TestGoodDevice(t *testing.T) {
	t.Parallel()
	for _, finding := range run(t, "", Config{Parallel: 30}).Findings {
		assert.Equal(t, Kept, finding.State, "%s: %s: %s", finding.Scenario, finding.ID, finding.Detail)
	}
}

func TestCommandNeedsItsPlaces(t *testing.T) {
	t.Parallel()
	_, err := Command("device {url}")
	require.ErrorContains(t, err, "{token}")
	_, err = Run(t.Context(), Config{Start: quirky("", &memory{}), Scenarios: []string{"no such"}})
	require.ErrorContains(t, err, "no such")
}
