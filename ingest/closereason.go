package ingest

import (
	"errors"
	"fmt"
	"time"

	"mooring/wire"
)

// CloseReason is why a session ends: what goes over the wire, what people read
// and what metrics count.
type CloseReason struct {
	Code wire.CloseCode
	// Text is for people, on the wire, in logs and in the sessions table: no
	// addresses, no secrets. What does not fit a close frame is cut off there.
	Text string
	// Label is the value of the metric's label "reason"; one of a fixed set.
	Label string

	goAway bool   // planned by the server: a GOAWAY precedes the close frame
	gone   bool   // the other side can't hear: no farewell
	byPeer bool   // the other side closed: answer its close frame, don't wait
	reply  uint16 // the code to answer a peer's close frame with; 0: none
}

// maxCloseText is what a close frame (125 bytes) holds beside its code.
const maxCloseText = 123

// The reasons that need no details.
var (
	closeDrain        = CloseReason{Code: wire.CloseDrain, Text: "the server restarts", Label: "drain", goAway: true}
	closeInternal     = CloseReason{Code: wire.CloseInternal, Text: "fault of the server", Label: "internal", goAway: true}
	closeOpen         = CloseReason{Code: wire.CloseInternal, Text: "the session could not be recorded in time", Label: "not_recorded", goAway: true}
	closeHeartbeat    = CloseReason{Code: wire.CloseHeartbeat, Text: "nothing was heard for too long", Label: "heartbeat", goAway: true}
	closeFirstFrame   = CloseReason{Code: wire.CloseHeartbeat, Text: "no frame in the time allowed for the first one", Label: "no_first_frame", goAway: true}
	closeSlowReader   = CloseReason{Code: wire.CloseSlowReader, Text: "the device does not read what is sent to it", Label: "slow_reader"}
	closeReplaced     = CloseReason{Code: wire.CloseReplaced, Text: "a newer connection of this device took over", Label: "replaced", goAway: true}
	closeWindow       = CloseReason{Code: wire.CloseWindow, Text: "more DATA frames than the window allows", Label: "window", goAway: true}
	closeQuota        = CloseReason{Code: wire.CloseQuota, Text: "more rows or bytes than the device may send, also after it was told", Label: "quota", goAway: true}
	closeBadHeader    = CloseReason{Code: wire.CloseBadFrame, Text: "a WebSocket frame whose length can't be", Label: "bad_header", goAway: true}
	closeBadSeq       = CloseReason{Code: wire.CloseBadSeq, Text: "sequence numbers went back within a connection", Label: "bad_seq", goAway: true}
	closeSecondHello  = CloseReason{Code: wire.CloseBadFrame, Text: "HELLO must be the first frame", Label: "bad_frame", goAway: true}
	closeServersFrame = CloseReason{Code: wire.CloseUnknownType, Text: "a frame that only servers send", Label: "unknown_type", goAway: true}
	closeTooLarge     = CloseReason{Code: wire.CloseTooLarge, Text: "a message larger than max_frame", Label: "too_large", goAway: true}
	closeFragments    = CloseReason{Code: wire.CloseTooLarge, Text: "a message in more fragments than are taken", Label: "fragments", goAway: true}
	closeSlowMessage  = CloseReason{Code: wire.CloseHeartbeat, Text: "a message took longer than is allowed", Label: "slow_message", goAway: true}
	closeFlood        = CloseReason{Code: wire.CloseQuota, Text: "more frames other than DATA than a device may send", Label: "flood", goAway: true}
	closeText         = CloseReason{Code: wire.CloseText, Text: "a text message; frames are binary messages", Label: "text", goAway: true}
	closeUnauthorized = CloseReason{Code: wire.CloseUnauthenticated, Text: "the credential was revoked or has expired", Label: "revoked", goAway: true}
	closeDisabled     = CloseReason{Code: wire.CloseDisabled, Text: "the device was disabled", Label: "disabled", goAway: true}
	closeProtocol     = CloseReason{Code: 1002, Text: "a breach of the WebSocket protocol", Label: "protocol", goAway: true}
	closeLost         = CloseReason{Code: 1006, Text: "the connection broke", Label: "lost", gone: true}
)

// closeFrameError is the reason when the codec refuses a frame.
func closeFrameError(err error) CloseReason {
	reason := CloseReason{Code: wire.CloseBadFrame, Text: err.Error(), Label: "bad_frame", goAway: true}
	if fault, ok := errors.AsType[*wire.FrameError](err); ok {
		reason.Code = fault.Close
		if fault.Close == wire.CloseUnknownType {
			reason.Label = "unknown_type"
		}
	}
	return reason
}

// closeByPeer is the reason when the device sent a close frame with this code
// (0: none), to be answered with reply.
func closeByPeer(code, reply uint16) CloseReason {
	reason := CloseReason{
		Code:   wire.CloseCode(code),
		Text:   fmt.Sprintf("closed by the device with %d %s", code, wire.CloseCode(code)),
		Label:  "by_device",
		byPeer: true,
		reply:  reply,
	}
	if code == 0 { // RFC 6455 §7.1.5: an empty close frame reads as 1005
		reason.Code, reason.Text = 1005, "closed by the device"
	}
	return reason
}

// closeDropped is the reason when the operator or the registry ends a session.
func closeDropped(code wire.CloseCode) CloseReason {
	switch code {
	case wire.CloseUnauthenticated:
		return closeUnauthorized
	case wire.CloseDisabled:
		return closeDisabled
	default:
		return CloseReason{Code: code, Text: "ended by the operator", Label: "dropped", goAway: true}
	}
}

// notice is the GOAWAY that announces the close, with the wait that the class
// of its code asks for (PROTOCOL §9.2).
func (r CloseReason) notice(spread time.Duration) wire.Notice {
	var after time.Duration
	switch r.Code.Class() {
	case wire.ClassRetry:
	case wire.ClassLater:
		after = time.Minute
	case wire.ClassFault:
		after = 10 * time.Second
	case wire.ClassTerminal:
		after = 15 * time.Minute
	}
	return wire.Notice{
		Kind:      wire.NoticeGoAway,
		Code:      r.Code,
		MinMillis: int(after.Milliseconds()),
		MaxMillis: int((after + spread).Milliseconds()),
		Text:      r.wireText(),
	}
}

// wireText is the text cut to what a close frame holds, at a whole character.
func (r CloseReason) wireText() string {
	if len(r.Text) <= maxCloseText {
		return r.Text
	}
	cut := maxCloseText
	for cut > 0 && r.Text[cut]&0xC0 == 0x80 {
		cut--
	}
	return r.Text[:cut]
}
