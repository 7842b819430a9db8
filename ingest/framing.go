package ingest

import "encoding/binary"

// WebSocket opcodes (RFC 6455 §5.2) of what a server sends here.
const (
	opBinary = 0x2
	opClose  = 0x8
	opPing   = 0x9
	opPong   = 0xA
)

// appendMessage appends one unmasked, unfragmented WebSocket frame, at most
// 65,535 bytes of payload (RFC 6455 §5.2). A server needs no more than this, and
// so a session's ACK, notices and close frame go out in one write.
func appendMessage(dst []byte, opcode byte, payload []byte) []byte {
	dst = append(dst, 0x80|opcode)
	if len(payload) <= 125 {
		dst = append(dst, byte(len(payload)))
	} else {
		dst = append(dst, 126)
		dst = binary.BigEndian.AppendUint16(dst, uint16(len(payload)))
	}
	return append(dst, payload...)
}

// appendClose appends a close frame (RFC 6455 §5.5.1).
func appendClose(dst []byte, reason CloseReason) []byte {
	code, text := uint16(reason.Code), reason.wireText()
	if reason.byPeer {
		code, text = reason.reply, ""
	}
	if code == 0 {
		return appendMessage(dst, opClose, nil)
	}
	dst = append(dst, 0x80|opClose, byte(2+len(text)))
	dst = binary.BigEndian.AppendUint16(dst, code)
	return append(dst, text...)
}
