package live

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestStopWhileTheDatabaseHangs: a server stops in time, also while viewers wait for
// a database that does not answer, before they are let in and behind.
func TestStopWhileTheDatabaseHangs(t *testing.T) {
	t.Parallel()
	for name, hang := range map[string]func(*world){
		"values":        func(w *world) { w.hangsLatest = true },
		"who is looked": func(w *world) { w.hangsWatched = true },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, 1, nil)
			hang(s.world)
			ctx, giveUp := context.WithCancel(context.Background())
			asked := make(chan struct{})
			go func() {
				defer close(asked)
				request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.server.URL+"?"+quick, http.NoBody)
				if err != nil {
					return
				}
				if response, err := s.server.Client().Do(request); err == nil {
					_ = response.Body.Close()
				}
			}()
			<-s.world.hung
			stopped := make(chan error, 1)
			hurry, cancel := context.WithCancel(context.Background())
			cancel()
			go func() { stopped <- s.hub.Stop(hurry) }()
			select {
			case err := <-stopped:
				require.NoError(t, err)
			case <-time.After(time.Minute):
				t.Error("it does not stop")
				s.hub.stop() // lets go of the viewer that was let in
			}
			giveUp()
			<-asked
		})
	}
}

// TestLeavingWhileTheDatabaseHangs: who leaves while the database owes an answer
// gives its place free at once, however it looks on and whatever it waits for.
func TestLeavingWhileTheDatabaseHangs(t *testing.T) {
	t.Parallel()
	left := func(s *stage) {
		s.Helper()
		require.Eventually(s, func() bool {
			s.hub.mu.RLock()
			defer s.hub.mu.RUnlock()
			return s.hub.open == 0 && len(s.hub.viewers) == 0
		}, time.Minute, time.Millisecond)
	}
	hangs := func(w *world, latest, watched bool) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.hangsLatest, w.hangsWatched = latest, watched
	}
	for name, leave := range map[string]func(*stage){
		"events": func(s *stage) {
			hangs(s.world, true, false)
			w := s.watch(quick, "")
			<-s.world.hung
			require.NoError(s, w.body.Close())
		},
		"socket": func(s *stage) {
			hangs(s.world, true, false)
			p := s.join(quick)
			<-s.world.hung
			require.NoError(s, p.conn.NetConn().Close())
		},
		"another filter": func(s *stage) {
			p := s.join(quick)
			p.until("snapshot_end")
			hangs(s.world, false, true)
			require.NoError(s, p.conn.WriteString(`{"type":"subscribe","devices":["d001"]}`))
			<-s.world.hung
			require.NoError(s, p.conn.NetConn().Close())
		},
		"not let in yet": func(s *stage) {
			hangs(s.world, false, true)
			ctx, giveUp := context.WithCancel(s.Context())
			asked := make(chan struct{})
			go func() {
				defer close(asked)
				request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.server.URL+"?"+quick, http.NoBody)
				if err != nil {
					return
				}
				if response, err := s.server.Client().Do(request); err == nil {
					_ = response.Body.Close()
				}
			}()
			<-s.world.hung
			giveUp()
			<-asked
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, 2, nil)
			t.Cleanup(s.hub.stop) // also if it fails
			leave(s)
			left(s)
			if name != "not let in yet" {
				require.InDelta(t, 1, s.metric("closes_total", closedGone), 0, "why it left")
			}
		})
	}
}
