package door

import (
	"fmt"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// turned is a clock that the test turns.
type turned struct{ at int64 }

func (c *turned) now() int64            { return c.at }
func (c *turned) turn(by time.Duration) { c.at += int64(by) }
func address(t *testing.T, s string) netip.Addr {
	t.Helper()
	a := AddressOf(s)
	require.True(t, a.IsValid(), s)
	return a
}

func open(t *testing.T, cfg Config) (*Door, *turned) {
	t.Helper()
	clock := &turned{at: 1}
	cfg = cfg.WithDefaults()
	require.NoError(t, cfg.Validate())
	return New(cfg, clock.now), clock
}

func TestBucketHoldsItsRate(t *testing.T) {
	t.Parallel()
	var b Bucket
	taken := 0
	for now := int64(1); now < int64(100*time.Second); now += int64(10 * time.Millisecond) {
		if _, ok := b.Take(now, 5, 1); ok {
			taken++
		}
	}
	require.InDelta(t, 5*10+5*100, taken, 1, "ten seconds' worth at once, then the rate")
	wait, ok := b.Take(int64(100*time.Second), 5, 1)
	require.False(t, ok)
	require.Positive(t, wait)
	_, ok = b.Take(int64(100*time.Second+wait), 5, 1)
	require.True(t, ok, "after the time that was named")
	_, ok = b.Take(0, 0, 1<<40)
	require.True(t, ok, "no limit")
}

func TestHandshakesOfOneAddress(t *testing.T) {
	t.Parallel()
	d, clock := open(t, Config{Rate: 100, AddressRate: 2})
	a, b := address(t, "192.0.2.1:1000"), address(t, "192.0.2.2:1000")
	for range 20 {
		refusal, _ := d.Handshake(a)
		require.Equal(t, Welcome, refusal)
	}
	refusal, wait := d.Handshake(a)
	require.Equal(t, AddressBusy, refusal)
	require.InDelta(t, 0.5, wait.Seconds(), 0.01)
	refusal, _ = d.Handshake(b)
	require.Equal(t, Welcome, refusal, "another address is not concerned")
	for range 1000 {
		d.Handshake(a)
	}
	clock.turn(wait)
	refusal, _ = d.Handshake(a)
	require.Equal(t, Welcome, refusal, "what was refused is not counted")
	for range 10_000 {
		d.Handshake(a)
	}
	refusal, _ = d.Handshake(b)
	require.Equal(t, Welcome, refusal, "nor does it use up what all have together")
}

func TestHandshakesOfAll(t *testing.T) {
	t.Parallel()
	d, clock := open(t, Config{Rate: 3})
	var refusal Refusal
	var wait time.Duration
	n := 0
	for ; ; n++ {
		if refusal, wait = d.Handshake(address(t, fmt.Sprintf("192.0.2.%d", n))); refusal != Welcome {
			break
		}
	}
	require.Equal(t, 30, n)
	require.Equal(t, Busy, refusal)
	clock.turn(wait)
	refusal, _ = d.Handshake(address(t, "127.0.0.1"))
	require.Equal(t, Welcome, refusal)
	refusal, _ = d.Handshake(address(t, "127.0.0.1"))
	require.Equal(t, Busy, refusal, "holds for addresses that are not limited by themselves too")
}

// What all have used up is not charged to who came too late.
func TestRefusedForAllIsNotCharged(t *testing.T) {
	t.Parallel()
	d, clock := open(t, Config{Rate: 1, AddressRate: 1})
	a := address(t, "192.0.2.1")
	for range 10 {
		d.Handshake(address(t, "127.0.0.1"))
	}
	for range 100 {
		refusal, _ := d.Handshake(a)
		require.Equal(t, Busy, refusal)
	}
	clock.turn(Burst)
	refusal, _ := d.Handshake(a)
	require.Equal(t, Welcome, refusal)
	require.InDelta(t, time.Second, d.habitsOf(a).handshakes.Ahead(clock.now()), float64(time.Millisecond), "one handshake is owed, the one that was let in")
}

// Who has a /64 has 2^64 addresses.
func TestIPv6CountsByItsNetwork(t *testing.T) {
	t.Parallel()
	d, _ := open(t, Config{AddressRate: 1})
	for i := range 10 {
		refusal, _ := d.Handshake(address(t, fmt.Sprintf("[2001:db8:0:1::%x]:5", i+1)))
		require.Equal(t, Welcome, refusal)
	}
	refusal, _ := d.Handshake(address(t, "2001:db8:0:1:ffff::1"))
	require.Equal(t, AddressBusy, refusal)
	refusal, _ = d.Handshake(address(t, "2001:db8:0:2::1"))
	require.Equal(t, Welcome, refusal)
	require.Equal(t, 2, d.Remembered())
	// An IPv4 address in IPv6's clothes is the IPv4 address.
	require.Equal(t, address(t, "192.0.2.1"), group(address(t, "::ffff:192.0.2.1")))
}

func TestUnlimitedAddresses(t *testing.T) {
	t.Parallel()
	d, _ := open(t, Config{AddressRate: 1, AddressFailures: 1, AddressConnections: 1})
	for _, local := range []string{"127.0.0.1:1", "[::1]:1", "127.3.2.1"} {
		for range 100 {
			refusal, _ := d.Handshake(address(t, local))
			require.Equal(t, Welcome, refusal)
			d.Failed(address(t, local))
			require.True(t, d.Hold(address(t, local)))
		}
		_, ok := d.MayFail(address(t, local))
		require.True(t, ok)
	}
	require.Zero(t, d.Remembered())
	d, _ = open(t, Config{AddressRate: 1, Unlimited: []netip.Prefix{}})
	refused := 0
	for range 100 {
		if refusal, _ := d.Handshake(address(t, "127.0.0.1")); refusal == AddressBusy {
			refused++
		}
	}
	require.Equal(t, 90, refused, "an empty list exempts nobody")
}

func TestFailuresOfOneAddress(t *testing.T) {
	t.Parallel()
	d, clock := open(t, Config{AddressFailures: 2})
	a := address(t, "192.0.2.1")
	for range 20 {
		_, ok := d.MayFail(a)
		require.True(t, ok)
		d.Failed(a)
	}
	wait, ok := d.MayFail(a)
	require.False(t, ok)
	require.InDelta(t, 0.5, wait.Seconds(), 0.01)
	_, ok = d.MayFail(address(t, "192.0.2.2"))
	require.True(t, ok)
	clock.turn(wait)
	_, ok = d.MayFail(a)
	require.True(t, ok)
	_, ok = d.MayFail(a)
	require.True(t, ok, "asking is not failing")
}

// A flood from ever new addresses must not fill the memory.
func TestAddressesAreForgotten(t *testing.T) {
	t.Parallel()
	d, _ := open(t, Config{Addresses: 100, AddressRate: 1})
	for i := range 10_000 {
		a := netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})
		d.Handshake(a)
		d.Failed(a)
	}
	require.Equal(t, 100, d.Remembered())
}

func TestConnectionsOfOneAddress(t *testing.T) {
	t.Parallel()
	d, _ := open(t, Config{AddressConnections: 2})
	a := address(t, "192.0.2.1")
	require.True(t, d.Hold(a))
	require.True(t, d.Hold(a))
	require.False(t, d.Hold(a))
	require.True(t, d.Hold(address(t, "192.0.2.2")))
	d.Release(a)
	require.True(t, d.Hold(a))
	d.Release(a)
	d.Release(a)
	d.Release(address(t, "192.0.2.2"))
	require.Empty(t, d.held, "no entry stays behind")
}

func TestValidate(t *testing.T) {
	t.Parallel()
	require.Error(t, Config{ForwardedHeader: XForwardedFor}.WithDefaults().Validate(), "whom to trust?")
	require.Error(t, Config{Addresses: -1}.WithDefaults().Validate())
	require.Error(t, Config{Rate: 2_000_000_000}.WithDefaults().Validate())
	require.NoError(t, Config{Rate: -1, AddressRate: -1, AddressFailures: -1}.WithDefaults().Validate())
}

func TestNoLimits(t *testing.T) {
	t.Parallel()
	d, _ := open(t, Config{Rate: -1, AddressRate: -1, AddressFailures: -1, Unfinished: -1, AddressUnfinished: -1})
	for range 100_000 {
		refusal, _ := d.Handshake(address(t, "192.0.2.1"))
		require.Equal(t, Welcome, refusal)
		d.Failed(address(t, "192.0.2.1"))
	}
	_, ok := d.MayFail(address(t, "192.0.2.1"))
	require.True(t, ok)
	require.Zero(t, d.Remembered())
}

func TestFrom(t *testing.T) {
	t.Parallel()
	proxies := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8:1::/48")}
	for name, c := range map[string]struct {
		header Header
		peer   string
		said   http.Header
		want   string
	}{
		"no header configured":       {NoHeader, "10.0.0.1:5", http.Header{"X-Forwarded-For": {"192.0.2.7"}}, "10.0.0.1"},
		"from a proxy":               {XForwardedFor, "10.0.0.1:5", http.Header{"X-Forwarded-For": {"192.0.2.7"}}, "192.0.2.7"},
		"from a stranger":            {XForwardedFor, "192.0.2.1:5", http.Header{"X-Forwarded-For": {"198.51.100.7"}}, "192.0.2.1"},
		"made up to the left":        {XForwardedFor, "10.0.0.1:5", http.Header{"X-Forwarded-For": {"127.0.0.1, 192.0.2.7"}}, "192.0.2.7"},
		"two proxies":                {XForwardedFor, "10.0.0.1:5", http.Header{"X-Forwarded-For": {"127.0.0.1, 192.0.2.7, 10.0.0.2"}}, "192.0.2.7"},
		"two lines":                  {XForwardedFor, "10.0.0.1:5", http.Header{"X-Forwarded-For": {"127.0.0.1", "192.0.2.7", "10.0.0.2"}}, "192.0.2.7"},
		"the proxy itself":           {XForwardedFor, "10.0.0.1:5", http.Header{}, "10.0.0.1"},
		"proxies all the way":        {XForwardedFor, "10.0.0.1:5", http.Header{"X-Forwarded-For": {"10.0.0.3, 10.0.0.2"}}, "10.0.0.3"},
		"nonsense":                   {XForwardedFor, "10.0.0.1:5", http.Header{"X-Forwarded-For": {"192.0.2.7, unknown"}}, "10.0.0.1"},
		"empty":                      {XForwardedFor, "10.0.0.1:5", http.Header{"X-Forwarded-For": {""}}, "10.0.0.1"},
		"with a port":                {XForwardedFor, "10.0.0.1:5", http.Header{"X-Forwarded-For": {"192.0.2.7:4711"}}, "192.0.2.7"},
		"IPv6":                       {XForwardedFor, "[2001:db8:1::5]:5", http.Header{"X-Forwarded-For": {"2001:db8:2::7"}}, "2001:db8:2::7"},
		"IPv6 with a port":           {XForwardedFor, "10.0.0.1:5", http.Header{"X-Forwarded-For": {"[2001:db8:2::7]:9"}}, "2001:db8:2::7"},
		"the other header":           {XForwardedFor, "10.0.0.1:5", http.Header{"Forwarded": {"for=192.0.2.7"}}, "10.0.0.1"},
		"Forwarded":                  {Forwarded, "10.0.0.1:5", http.Header{"Forwarded": {"for=192.0.2.7;proto=https;by=10.0.0.1"}}, "192.0.2.7"},
		"Forwarded, quoted":          {Forwarded, "10.0.0.1:5", http.Header{"Forwarded": {`proto=https; For="[2001:db8:2::7]:4711"`}}, "2001:db8:2::7"},
		"Forwarded, bare IPv6":       {Forwarded, "10.0.0.1:5", http.Header{"Forwarded": {`for="[2001:db8:2::7]"`}}, "2001:db8:2::7"},
		"Forwarded, hidden":          {Forwarded, "10.0.0.1:5", http.Header{"Forwarded": {"for=192.0.2.9, for=_hidden"}}, "10.0.0.1"},
		"Forwarded, twice":           {Forwarded, "10.0.0.1:5", http.Header{"Forwarded": {"for=192.0.2.9;for=192.0.2.8"}}, "10.0.0.1"},
		"Forwarded, comma in quotes": {Forwarded, "10.0.0.1:5", http.Header{"Forwarded": {`for=192.0.2.9, for="192.0.2.8, for=_x"`}}, "10.0.0.1"},
	} {
		cfg := Config{TrustedProxies: proxies, ForwardedHeader: c.header}
		d, _ := open(t, cfg)
		got := d.From(&http.Request{RemoteAddr: c.peer, Header: c.said})
		require.Equal(t, c.want, got.String(), name)
	}
	d, _ := open(t, Config{})
	require.False(t, d.From(&http.Request{RemoteAddr: "pipe"}).IsValid())
}

func TestEncrypted(t *testing.T) {
	t.Parallel()
	proxies := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	x := func(from, proto string) http.Header {
		return http.Header{"X-Forwarded-For": {from}, "X-Forwarded-Proto": {proto}}
	}
	for name, c := range map[string]struct {
		header Header
		peer   string
		said   http.Header
		want   bool
	}{
		"no header configured":          {NoHeader, "10.0.0.1:5", x("192.0.2.7", "https"), false},
		"from a proxy":                  {XForwardedFor, "10.0.0.1:5", x("192.0.2.7", "https"), true},
		"in capitals":                   {XForwardedFor, "10.0.0.1:5", x("192.0.2.7", "HTTPS"), true},
		"by plain HTTP":                 {XForwardedFor, "10.0.0.1:5", x("192.0.2.7", "http"), false},
		"from a stranger":               {XForwardedFor, "192.0.2.1:5", x("192.0.2.7", "https"), false},
		"made up to the left":           {XForwardedFor, "10.0.0.1:5", x("192.0.2.9, 192.0.2.7", "https, http"), false},
		"two proxies, each adds":        {XForwardedFor, "10.0.0.1:5", x("192.0.2.7, 10.0.0.2", "https, http"), true},
		"two, the second passes it on":  {XForwardedFor, "10.0.0.1:5", x("192.0.2.7, 10.0.0.2", "https"), true},
		"the address hidden":            {XForwardedFor, "10.0.0.1:5", x("unknown", "https"), true},
		"no address":                    {XForwardedFor, "10.0.0.1:5", http.Header{"X-Forwarded-Proto": {"https"}}, true},
		"not said":                      {XForwardedFor, "10.0.0.1:5", http.Header{"X-Forwarded-For": {"192.0.2.7"}}, false},
		"the other header":              {XForwardedFor, "10.0.0.1:5", http.Header{"Forwarded": {"for=192.0.2.7;proto=https"}}, false},
		"Forwarded":                     {Forwarded, "10.0.0.1:5", http.Header{"Forwarded": {`for=192.0.2.7; Proto="https"`}}, true},
		"Forwarded, the other header":   {Forwarded, "10.0.0.1:5", x("192.0.2.7", "https"), false},
		"Forwarded, made up":            {Forwarded, "10.0.0.1:5", http.Header{"Forwarded": {"for=192.0.2.9;proto=https, for=192.0.2.7;proto=http"}}, false},
		"Forwarded, two proxies":        {Forwarded, "10.0.0.1:5", http.Header{"Forwarded": {"for=192.0.2.7;proto=https, for=10.0.0.2;proto=http"}}, true},
		"Forwarded, hidden behind two":  {Forwarded, "10.0.0.1:5", http.Header{"Forwarded": {"for=_x;proto=https, for=10.0.0.2;proto=http"}}, true},
		"Forwarded, not said":           {Forwarded, "10.0.0.1:5", http.Header{"Forwarded": {"for=192.0.2.7"}}, false},
		"Forwarded, said by who can't":  {Forwarded, "192.0.2.1:5", http.Header{"Forwarded": {"for=192.0.2.7;proto=https"}}, false},
		"Forwarded, twice in one":       {Forwarded, "10.0.0.1:5", http.Header{"Forwarded": {"proto=https;proto=https"}}, false},
		"a connection without an end":   {XForwardedFor, "pipe", x("192.0.2.7", "https"), false},
		"from a proxy, without a value": {XForwardedFor, "10.0.0.1:5", x("192.0.2.7", ""), false},
	} {
		d, _ := open(t, Config{TrustedProxies: proxies, ForwardedHeader: c.header})
		require.Equal(t, c.want, d.Encrypted(&http.Request{RemoteAddr: c.peer, Header: c.said}), name)
	}
}

func FuzzFrom(f *testing.F) {
	f.Add("10.0.0.1:5", `for="[2001:db8::1]:5";by=_x, for=192.0.2.1`)
	f.Add("10.0.0.1:5", "192.0.2.1, [::1]:5, unknown")
	f.Fuzz(func(t *testing.T, peer, value string) {
		trusted := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
		for _, header := range []Header{XForwardedFor, Forwarded} {
			d := New(Config{TrustedProxies: trusted, ForwardedHeader: header}.WithDefaults(), func() int64 { return 1 })
			got := d.From(&http.Request{RemoteAddr: peer, Header: http.Header{string(header): {value}}})
			if got != AddressOf(peer) && !Within(AddressOf(peer), trusted) {
				t.Fatalf("a stranger's word was taken: %v", got)
			}
			both := http.Header{string(header): {value}, "X-Forwarded-Proto": {value}}
			if d.Encrypted(&http.Request{RemoteAddr: peer, Header: both}) && !Within(AddressOf(peer), trusted) {
				t.Fatal("a stranger's word was taken for TLS")
			}
			if got.IsValid() && got.Zone() != "" {
				t.Fatalf("a zone in %v", got)
			}
		}
	})
}
