package conform

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"mooring/cmd/internal/websocket"
	"mooring/wire"
)

// handshake reads a request and says what to answer; "": nothing, since there was
// no request, as when a browser opens a connection in advance.
func (s *stage) handshake(in *bufio.Reader) (answer string, upgrade bool) {
	request, err := http.ReadRequest(in)
	if err != nil {
		return "", false
	}
	_ = request.Body.Close()
	s.mu.Lock()
	refused := refusal{}
	if n := len(s.refusals); n > 0 {
		refused = s.refusals[min(len(s.attempts), n-1)]
	}
	s.attempts = append(s.attempts, time.Now())
	s.touch()
	s.mu.Unlock()

	good := s.checkEndpoint(request)
	offered := offeredSubprotocols(request)
	s.checkCredential(request, offered)
	selected := ""
	switch {
	case slices.Contains(offered, wire.Subprotocol):
		selected = "Sec-WebSocket-Protocol: " + wire.Subprotocol + "\r\n"
		s.kept(ruleSubprotocol)
	case len(offered) == 0:
		s.broken(ruleSubprotocol, "offers no subprotocol")
	default:
		s.broken(ruleSubprotocol, "offers %d others only, which a server answers with 400", len(offered))
		good = false
	}
	switch {
	case !good:
		s.mu.Lock()
		s.hopeless = true
		s.touch()
		s.mu.Unlock()
		return "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", false
	case refused.status != 0:
		return fmt.Sprintf("HTTP/1.1 %d %s\r\n%sContent-Length: 0\r\nConnection: close\r\n\r\n",
			refused.status, http.StatusText(refused.status), refused.header), false
	}
	return "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" + selected +
		"Sec-WebSocket-Accept: " + websocket.AcceptKey(request.Header.Get("Sec-Websocket-Key")) + "\r\n\r\n", true
}

// checkEndpoint is PROTOCOL §2.1 and §11.1, H7 to H10.
func (s *stage) checkEndpoint(request *http.Request) bool {
	header := request.Header
	key, err := base64.StdEncoding.DecodeString(header.Get("Sec-Websocket-Key"))
	fault := ""
	switch {
	case request.Method != http.MethodGet:
		fault = "the method is " + request.Method
	case request.URL.Path != wire.StreamPath:
		fault = "the path is " + request.URL.Path
	case !strings.EqualFold(header.Get("Upgrade"), "websocket"), !strings.Contains(strings.ToLower(header.Get("Connection")), "upgrade"):
		fault = "no upgrade to WebSocket is asked for"
	case header.Get("Sec-Websocket-Version") != "13":
		fault = "Sec-WebSocket-Version is not 13"
	case err != nil || len(key) != 16:
		fault = "Sec-WebSocket-Key is not base64 of 16 bytes"
	}
	if fault != "" {
		s.broken(ruleEndpoint, "%s", fault)
		return false
	}
	s.kept(ruleEndpoint)
	return true
}

func offeredSubprotocols(request *http.Request) []string {
	var offered []string
	for _, line := range request.Header.Values("Sec-Websocket-Protocol") {
		for name := range strings.SplitSeq(line, ",") {
			offered = append(offered, strings.TrimSpace(name))
		}
	}
	return offered
}

// checkCredential is PROTOCOL §2.3.
func (s *stage) checkCredential(request *http.Request, offered []string) {
	if strings.Contains(request.RequestURI, s.token) {
		s.broken(ruleCredential, "the token stands in the URL")
		return
	}
	var ways []string
	if value := request.Header.Get("Authorization"); value != "" {
		scheme, credential, _ := strings.Cut(value, " ")
		good := strings.EqualFold(scheme, "Bearer") && credential == s.token
		if _, password, ok := request.BasicAuth(); ok {
			good = password == s.token
		}
		if !good {
			s.broken(ruleCredential, "Authorization (%s) does not carry the token", scheme)
			return
		}
		ways = append(ways, "Authorization: "+scheme)
	}
	for _, name := range offered {
		if token, is := strings.CutPrefix(name, wire.TokenSubprotocolPrefix); is {
			if token != s.token {
				s.broken(ruleCredential, "the offered subprotocol carries another token")
				return
			}
			ways = append(ways, "an offered subprotocol")
		}
	}
	s.measure(ruleCredential, len(ways) == 1, "%d credentials: %s", len(ways), strings.Join(ways, ", "))
}
