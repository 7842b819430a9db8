package fleet

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"mooring/wire"
)

func TestLedgerRoundTrip(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "ledger")
	w, err := newLedgerWriter(path, &Header{Run: 7, Seed: 8, Channels: 3, Refusals: 100, Devices: 2})
	require.NoError(t, err)
	boots := []Boot{*someBoot(0), *someBoot(1)}
	boots[0].Index, boots[1].Index = 0, 0
	w.write(bootLine{"boot", boots[0]})
	w.write(stateLine{Kind: "state", Sent: 10, Acked: 4, Refused: [][4]int64{{1, 2, -1, 7}}})
	w.write(stateLine{Kind: "state", Sent: 30, Acked: 20, Dropped: [][2]uint64{{5, 2}}, Refused: [][4]int64{{9, 1, 0, 3}}, End: true})
	w.write(bootLine{"boot", boots[1]})
	w.write(stateLine{Kind: "state", Boot: 1, Sent: 3})
	require.NoError(t, w.close())

	ledger, err := ReadLedger(path)
	require.NoError(t, err)
	require.Equal(t, &Plan{Run: 7, Seed: 8, Channels: 3, Refusals: 100}, ledger.Header.plan())
	require.Equal(t, [][]*BootRecord{{
		{
			Boot: boots[0], Sent: 30, Acked: 20, Ended: true, Dropped: []span{{5, 2}},
			Refused: []wire.Reject{{Seq: 1, N: 2, Channel: -1, Code: 7}, {Seq: 9, N: 1, Channel: 0, Code: 3}},
		},
		{Boot: boots[1], Sent: 3},
	}}, ledger.Devices)

	// As when the writer was killed in the middle of a line.
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	cut, err := readLedger(bytes.NewReader(content[:len(content)-5]))
	require.NoError(t, err)
	require.Zero(t, cut.Devices[0][1].Sent)
}

func TestLedgerRefusesNonsense(t *testing.T) {
	t.Parallel()
	const run = `{"kind":"run","version":1,"channels":3}` + "\n"
	const boot = `{"kind":"boot","index":0,"boot":0}` + "\n"
	for _, text := range []string{
		"", "hello\n", boot, run + run, `{"kind":"run","version":2,"channels":3}` + "\n", `{"kind":"run","version":1}` + "\n",
		run + `{"kind":"other"}` + "\n", run + `{"kind":"boot","index":-1}` + "\n", run + `{"kind":"boot","boot":1}` + "\n",
		run + `{"kind":"state","index":0,"boot":0}` + "\n", run + boot + `{"kind":"state","sent":1,"acked":2}` + "\n",
	} {
		_, err := readLedger(strings.NewReader(text))
		require.ErrorIs(t, err, ErrLedger, text)
	}
	_, err := ReadLedger(filepath.Join(t.TempDir(), "absent"))
	require.ErrorIs(t, err, os.ErrNotExist)
}

func FuzzReadLedger(f *testing.F) {
	f.Add([]byte(`{"kind":"run","version":1,"channels":3}
{"kind":"boot","index":0,"boot":0,"jumps":[{"from":1,"offset_ms":2}]}
{"kind":"state","index":0,"boot":0,"sent":3,"acked":2,"refused":[[0,1,-1,7]]}
`))
	f.Fuzz(func(t *testing.T, content []byte) {
		if bytes.Contains(content, []byte("index")) && bytes.ContainsAny(content, "123456789") && len(content) > 4096 {
			return // many devices take memory, as they should
		}
		ledger, err := readLedger(bytes.NewReader(content))
		if err != nil {
			require.Nil(t, ledger)
		}
	})
}

func TestReadTokens(t *testing.T) {
	t.Parallel()
	read := func(content string) ([]Credential, error) {
		path := filepath.Join(t.TempDir(), "tokens.csv")
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
		return ReadTokens(path)
	}
	want := []Credential{{"a", "x"}, {"b", "y"}}
	for _, content := range []string{"name,token\na,x\nb,y\n", "a,x\nb,y", "# fleet\na,x,more\nb,y\n"} {
		tokens, err := read(content)
		require.NoError(t, err)
		require.Equal(t, want, tokens)
	}
	for _, content := range []string{"", "name,token\n", "a\n", "a,x\n,y\n"} {
		_, err := read(content)
		require.Error(t, err, content)
	}
}
