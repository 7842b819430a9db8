package live

import (
	"bufio"
	"context"
	"errors"
	"net"
	"net/http"
	"runtime/debug"
)

// readBuffer is what is read of a viewer at a time.
const readBuffer = 512

// RefusalError is why a request does not become a viewer.
type RefusalError struct {
	Status int // of HTTP; 429 and 503 may pass
	Detail string
}

func (r *RefusalError) Error() string { return r.Detail }

// Person is who looks on.
type Person struct {
	// User is the number of the user who looks on, of whom only so many viewers are
	// let in. 0: nobody in particular.
	User int32
	// Recheck says whether it still may, once a minute; the error is told to it.
	// nil: it may for ever.
	Recheck func(ctx context.Context) error
	// Admitted is called when nothing is in its way any more. May be nil.
	Admitted func()
}

// Serve makes a request of somebody who may look on a viewer. It takes the
// connection over and returns; if it returns a *RefusalError, nothing was answered.
func (h *Hub) Serve(w http.ResponseWriter, r *http.Request, who Person) error { //nolint:contextcheck // a viewer outlives its request
	req, err := parseQuery(r.URL.Query())
	if err != nil {
		h.metrics.refused.WithLabelValues("filter").Inc()
		return &RefusalError{http.StatusUnprocessableEntity, err.Error()}
	}
	if last := r.Header.Get("Last-Event-ID"); last != "" {
		req.cursor = last // newer than what the address says
	}
	upgrades := isUpgrade(r)
	if upgrades {
		if wrong := checkUpgrade(r); wrong != "" {
			return &RefusalError{http.StatusBadRequest, wrong}
		}
	}
	if err := h.enter(req.filter, who.User); err != nil {
		return err
	}
	asking, cancel := context.WithCancel(r.Context())
	defer context.AfterFunc(h.life, cancel)() //nolint:contextcheck // a hub that stops does not wait for the database
	s, err := h.choose(asking, &req.filter)
	cancel()
	if err != nil {
		h.exit(req.filter, who.User)
		h.metrics.refused.WithLabelValues("database").Inc()
		h.cfg.Logger.Warn("a viewer's filter could not be asked for", "error", err)
		return &RefusalError{http.StatusServiceUnavailable, "the database does not answer; try again"}
	}
	v := &viewer{
		hub: h, user: who.User, recheck: who.Recheck, filter: req.filter, hash: req.filter.hash(), selection: s,
		asked: make(chan filter), wrong: make(chan string), flooded: make(chan struct{}), gone: make(chan struct{}), over: make(chan struct{}),
	}
	if err := h.connect(w, r, v, upgrades); err != nil {
		h.leave(s)
		h.exit(req.filter, who.User)
		return err
	}
	if who.Admitted != nil {
		who.Admitted()
	}
	from, hasCursor := parseCursor(req.cursor)
	hasCursor = hasCursor || req.cursor != ""
	h.mu.Lock()
	h.viewers[v] = struct{}{}
	h.mu.Unlock()
	// Not the request's context: that ends with the handler.
	ctx, end := context.WithCancel(h.life)
	go func() {
		defer h.watching.Done()
		defer end() // nobody is left to wait for the database for
		defer close(v.gone)
		defer v.transport.abort() // a write that waits ends
		v.transport.read(v)
	}()
	go func() {
		defer h.watching.Done()
		defer end()
		v.part(v.survive(func() error { return v.run(ctx, from, hasCursor, req.noSnapshot) }))
	}()
	return nil
}

// survive turns a panic, which is a fault of ours, into the end of this viewer.
func (v *viewer) survive(run func() error) (err error) {
	defer func() {
		if fault := recover(); fault != nil {
			v.hub.cfg.Logger.Error("a viewer could not be told what there is: a fault in this program", "fault", fault, "stack", string(debug.Stack()))
			v.out.release()
			err = &goodbye{label: closedFault, code: 1011}
		}
	}()
	return run()
}

// enter counts a viewer in, with its two goroutines, unless there are enough, in all
// or of this user.
func (h *Hub) enter(f filter, user int32) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.ended:
		return &RefusalError{http.StatusServiceUnavailable, errStopping.Error()}
	case h.open >= h.cfg.MaxViewers:
		h.metrics.refused.WithLabelValues("full").Inc()
		return &RefusalError{http.StatusServiceUnavailable, "as many look on as this server lets; try again later"}
	}
	if user != 0 {
		if h.ofUser[user] >= h.cfg.MaxOfUser {
			h.metrics.refused.WithLabelValues("user").Inc()
			return &RefusalError{http.StatusTooManyRequests, "this user looks on as often as this server lets; close some of it, or try again later"}
		}
		h.ofUser[user]++
	}
	h.open++
	h.countPace(f.every, 1)
	h.watching.Add(2)
	return nil
}

// exit undoes enter for a request that did not become a viewer.
func (h *Hub) exit(f filter, user int32) {
	h.mu.Lock()
	h.countOut(f, user)
	h.mu.Unlock()
	h.watching.Add(-2)
}

// countOut forgets that a viewer was counted in. h.mu is held.
func (h *Hub) countOut(f filter, user int32) {
	h.open--
	h.countPace(f.every, -1)
	if user != 0 {
		if h.ofUser[user]--; h.ofUser[user] == 0 {
			delete(h.ofUser, user)
		}
	}
}

// connect takes the connection over and begins the answer.
func (h *Hub) connect(w http.ResponseWriter, r *http.Request, v *viewer, upgrades bool) error {
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return &RefusalError{http.StatusInternalServerError, "this connection can't be taken over"}
	}
	if n := buffered.Reader.Buffered(); n > 0 { // came right behind the request
		conn = &ahead{Conn: conn, reader: bufio.NewReaderSize(buffered.Reader, n)}
	}
	if upgrades {
		s, handler, err := h.upgrade(conn, r.Header.Get("Sec-WebSocket-Key"))
		if err != nil {
			return errGone
		}
		handler.viewer, v.transport = v, s
	} else {
		s := &eventStream{newWire(conn, h.cfg.Timeout)}
		if err := s.write([]byte(eventStreamHead)); err != nil {
			_ = conn.Close()
			return errGone
		}
		v.transport = s
	}
	messages := h.metrics.messages.WithLabelValues(v.transport.name())
	v.out = outbox{framing: v.transport, start: -1, write: func(framed []byte, count int) error {
		if err := v.transport.write(framed); err != nil {
			return err
		}
		messages.Add(float64(count))
		h.metrics.bytes.Add(float64(len(framed)))
		return nil
	}}
	return nil
}

// errGone means that whoever asked is gone.
var errGone = errors.New("the connection is gone")

// ahead is a connection of which some bytes were read already.
type ahead struct {
	net.Conn
	reader *bufio.Reader
}

func (a *ahead) Read(p []byte) (int, error) { return a.reader.Read(p) }

// NetConn is the connection within.
func (a *ahead) NetConn() net.Conn { return a.Conn }

// part ends a viewer for the reason that run gave.
func (v *viewer) part(err error) {
	h := v.hub
	close(v.over)
	why := ended(err)
	h.metrics.closed.WithLabelValues(why.label).Inc()
	h.cfg.Logger.Debug("a viewer left", "reason", why.label, "text", why.text)
	if why.text != "" {
		if dst, err := v.out.begin("end"); err == nil {
			dst = append(dst, `,"reason":`...)
			v.out.put(appendText(dst, why.text))
			_ = v.out.finish(nil) // it may be gone
		}
	}
	v.out.release()
	v.transport.farewell(why.code, why.text)
	<-v.gone
	h.leave(v.selection)
	h.mu.Lock()
	delete(h.viewers, v)
	h.countOut(v.filter, v.user)
	h.mu.Unlock()
}
