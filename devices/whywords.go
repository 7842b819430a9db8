package devices

import (
	"fmt"

	"mooring/wire"
)

// codeText is a close code with its name and the reason on record.
func codeText(code wire.CloseCode, reason string) string {
	switch {
	case code == 0 && reason == "":
		return "an end that nobody saw"
	case code == 0:
		return "no code: " + reason
	case reason == "":
		return fmt.Sprintf("%d %s", code, code)
	default:
		return fmt.Sprintf("%d %s: %s", code, code, reason)
	}
}

// codeAdvice says what to do about a device whose session ended so; codes after
// which it comes back by itself say that.
var codeAdvice = map[wire.CloseCode]string{
	0:                         "the server that held it ended without a word; look at that server's log",
	wire.CloseDrain:           "nothing: the server restarted, and the device comes back in its slot",
	wire.CloseInternal:        "look at the server's log and at the database; the device comes back by itself",
	wire.CloseHeartbeat:       "its network is silent or broken, or the device hangs or sleeps longer than its heartbeat: look at power, signal and the device",
	wire.CloseSlowReader:      "the device does not read what the server sends: its firmware is busy elsewhere",
	wire.CloseOverloaded:      "the server has more than it can take; the device comes back in a minute",
	wire.CloseReplaced:        "a newer connection of this device took over. If it happens again and again, two devices use one token: give each its own",
	wire.CloseWindow:          "its firmware sends more unacknowledged frames than the window allows (docs/PROTOCOL.md, ACK)",
	wire.CloseQuota:           "it sends more than its quota and did not heed THROTTLE: raise the quota, or have it send less",
	wire.CloseBadFrame:        "its firmware sent a frame whose head can't be read: a fault of the firmware",
	wire.CloseBadSeq:          "its sequence numbers went back within a connection: a fault of the firmware",
	wire.CloseTooLarge:        "it sent a message larger than max_frame: fewer rows a frame, or a larger --max-frame",
	wire.CloseUnknownType:     "it sent a frame type that the protocol does not have: a fault of the firmware, or a newer protocol",
	wire.CloseText:            "it sent a text message; frames are binary",
	wire.CloseVersion:         "it speaks another version of the protocol",
	wire.CloseUnauthenticated: "its credential was revoked or expired while it was connected: mooring device rotate",
	wire.CloseDisabled:        "mooring device enable lets it in again",
	1000:                      "nothing: the device left",
	1001:                      "nothing: the device left",
	1005:                      "nothing: the device closed without a code",
	1006:                      "the connection broke: look at the network and the device's power",
}

// HandshakeReason is a reason of mooring.refused_handshakes in words.
func HandshakeReason(reason string) string {
	if words, ok := handshakeWords[reason]; ok {
		return words
	}
	return reason
}

var handshakeWords = map[string]string{
	"revoked":       "its token is revoked",
	"expired":       "its token has expired",
	"disabled":      "the device was disabled",
	"other_name":    "its token came under another device's name",
	"unknown_token": "a token that is nobody's came under its name",
	"certificate":   "its certificate is not good (revoked or expired)",
	"changed_since": "its credential was not good then, and is now",
}

var handshakeAdvice = map[string]string{
	"revoked":       "give the device its newer token; if it is lost: mooring device rotate",
	"expired":       "mooring device rotate, and give the device the new token",
	"disabled":      "mooring device enable",
	"other_name":    "with Basic authentication the user is the device's name: correct it on the device, or give it its own token",
	"unknown_token": "the device has a wrong or outdated token, or somebody guesses: mooring device rotate",
	"certificate":   "give the device a new certificate",
	"changed_since": "nothing: it comes back by itself",
}
