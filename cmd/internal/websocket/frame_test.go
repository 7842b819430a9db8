package websocket

import (
	"bytes"
	"io"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestFramesComeBack(t *testing.T) {
	t.Parallel()
	for _, size := range []int{0, 1, 125, 126, 65_535, 65_536} {
		payload := bytes.Repeat([]byte{0xa5, 1}, size/2+1)[:size]
		for _, mask := range []*[4]byte{nil, {1, 2, 3, 4}} {
			written := Append([]byte("before"), Fin|Binary, mask, payload)
			in := bytes.NewReader(written[len("before"):])
			frame, err := Read(in, 1<<17)
			require.NoError(t, err)
			require.Equal(t, Binary, frame.Opcode())
			require.True(t, frame.Final())
			require.False(t, frame.Reserved())
			require.Equal(t, mask != nil, frame.Masked)
			require.Equal(t, payload, frame.Payload)
			_, err = Read(in, 1)
			require.Equal(t, io.EOF, err, "nothing follows")
		}
	}
}

func TestReadRefuses(t *testing.T) {
	t.Parallel()
	whole := Append(nil, Fin|Binary, &[4]byte{1}, make([]byte, 200))
	_, err := Read(bytes.NewReader(whole), 199)
	require.ErrorIs(t, err, ErrTooLong)
	// A length with its top bit set asks for no memory.
	_, err = Read(bytes.NewReader([]byte{0x82, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}), 1<<20)
	require.ErrorIs(t, err, ErrTooLong)
	for cut := 1; cut < len(whole); cut++ {
		_, err = Read(bytes.NewReader(whole[:cut]), 1000)
		require.ErrorIs(t, err, io.ErrUnexpectedEOF, "cut behind %d bytes", cut)
	}
	frame, err := Read(bytes.NewReader([]byte{0x42, 0}), 0)
	require.NoError(t, err)
	require.True(t, frame.Reserved())
	require.False(t, frame.Final())
}

func TestAcceptKey(t *testing.T) {
	t.Parallel()
	require.Equal(t, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", AcceptKey("dGhlIHNhbXBsZSBub25jZQ=="), "RFC 6455 §1.3")
}
