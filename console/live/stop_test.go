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
			case <-time.After(30 * time.Second):
				t.Error("it does not stop")
				s.hub.stop() // lets go of the viewer that was let in
			}
			giveUp()
			<-asked
		})
	}
}
