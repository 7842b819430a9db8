package live

import (
	"cmp"
	"context"
	"slices"
	"time"

	"mooring/storage"
)

const (
	askEvery     = time.Second
	renewEvery   = 5 * time.Second // who fits the filters, presence, and the size of the fleet
	askTimeout   = 10 * time.Second
	remoteAtOnce = 500
	// remoteRows of a device are read at a time; of more, the newest.
	remoteRows = 100

	rejectsAtOnce = 1000
	// rejectSlack is how long a refusal may take from its number to its commit.
	rejectSlack = 10 * time.Second
)

// asker is what askDatabase remembers.
type asker struct {
	hub        *Hub
	renewed    time.Time
	complained time.Time
	primed     bool                // low holds
	low        int64               // refusals up to this number are told
	told       map[int64]time.Time // and these
}

// askDatabase finds out what only the database knows, once a second while
// somebody watches, and no more often than it has time for.
func (h *Hub) askDatabase() {
	a := &asker{hub: h}
	for {
		if !h.isActive() {
			*a = asker{hub: h, complained: a.complained}
		}
		if !h.rest(h.wakeAsk) {
			return
		}
		begun := time.Now()
		a.all(begun)
		took := time.Since(begun)
		h.metrics.asking.Add(took.Seconds())
		timer := time.NewTimer(max(askEvery, took))
		select {
		case <-timer.C:
		case <-h.ask:
			// Not at once: a layout or device that is new seldom comes alone.
			timer.Stop()
			if !h.pause(max(minEvery, took)) {
				return
			}
		case <-h.life.Done():
			timer.Stop()
			return
		}
	}
}

// all asks everything that is due.
func (a *asker) all(now time.Time) {
	h := a.hub
	ctx, cancel := context.WithTimeout(h.life, askTimeout)
	defer cancel()
	err := cmp.Or(a.learnLayouts(ctx), a.pollRemote(ctx), a.pollRejects(ctx, now))
	h.mu.Lock()
	due := h.renew && now.Sub(a.renewed) >= askEvery || now.Sub(a.renewed) >= renewEvery
	h.renew = h.renew && !due
	h.mu.Unlock()
	if due {
		a.renewed = now
		err = cmp.Or(err, a.renew(ctx))
	}
	if err == nil || h.life.Err() != nil {
		return
	}
	h.metrics.faults.Inc()
	if now.Sub(a.complained) > 10*time.Second {
		a.complained = now
		h.cfg.Logger.Warn("viewers see less than there is: the database does not answer", "error", err)
	}
}

// learnLayouts asks for the channels of layouts that news came of, and brings
// the news.
func (a *asker) learnLayouts(ctx context.Context) error {
	h := a.hub
	h.mu.RLock()
	var unknown []int32
	for key := range h.later {
		if _, known := h.layouts[key[1]]; !known && !slices.Contains(unknown, key[1]) {
			unknown = append(unknown, key[1])
		}
	}
	h.mu.RUnlock()
	var found map[int32][]storage.LayoutChannel
	if len(unknown) > 0 {
		var err error
		if found, err = h.cfg.Readings.LayoutChannels(ctx, unknown); err != nil {
			return err
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, layout := range unknown {
		h.layouts[layout] = found[layout] // none: deleted since
	}
	if len(h.later) == 0 {
		return nil
	}
	h.change++
	for key, news := range h.later {
		if _, known := h.layouts[key[1]]; known {
			delete(h.later, key)
			h.merge(news, h.change)
		}
	}
	return nil
}

// pollRemote reads new rows of devices that other servers hold.
func (a *asker) pollRemote(ctx context.Context) error {
	h := a.hub
	now := time.Now()
	h.mu.RLock()
	var marks []storage.Mark
	for _, e := range h.entries {
		if e.loaded && e.readers > 0 && now.Before(e.remote) {
			marks = append(marks, e.mark)
		}
	}
	h.mu.RUnlock()
	h.metrics.remote.Set(float64(len(marks)))
	slices.SortFunc(marks, func(a, b storage.Mark) int { return cmp.Compare(a.Device, b.Device) })
	for chunk := range slices.Chunk(marks, remoteAtOnce) {
		var found []storage.News
		if err := h.cfg.Readings.RowsSince(ctx, chunk, remoteRows, func(news storage.News) error {
			found = append(found, news)
			return nil
		}); err != nil {
			return err
		}
		if len(found) == 0 {
			continue
		}
		h.mu.Lock()
		h.change++
		for i := range found {
			h.merge(&found[i], h.change)
		}
		h.mu.Unlock()
	}
	return nil
}

// renew asks who fits the filters now, and for their presence: notifications of
// that are hints, which may be lost.
func (a *asker) renew(ctx context.Context) error {
	h := a.hub
	all, online, err := h.cfg.Devices.Count(ctx)
	if err != nil {
		return err
	}
	h.mu.Lock()
	h.fleet.all, h.fleet.online = all, online
	var list []*selection
	for _, s := range h.selections {
		if s.filter.listed() {
			list = append(list, s)
		}
	}
	h.mu.Unlock()
	for _, s := range list {
		h.mu.RLock()
		asked := h.change
		h.mu.RUnlock()
		found, total, err := h.cfg.Devices.Watched(ctx, s.filter.watch(h.cfg.MaxDevices))
		if err != nil {
			return err
		}
		h.mu.Lock()
		if h.selections[s.key] == s { // not forgotten meanwhile
			h.apply(s, found, total, asked)
		}
		h.mu.Unlock()
	}
	return nil
}

// pollRejects puts new refusals into the ring. Their numbers may become visible
// out of order, so those of the last seconds are looked at again.
func (a *asker) pollRejects(ctx context.Context, now time.Time) error {
	h := a.hub
	if !a.primed {
		low, err := h.cfg.Readings.LastReject(ctx)
		if err != nil {
			return err
		}
		a.primed, a.low, a.told = true, low, make(map[int64]time.Time)
	}
	found, err := h.cfg.Readings.RejectsAfter(ctx, a.low, rejectsAtOnce)
	if err != nil || len(found) == 0 {
		return err
	}
	h.mu.Lock()
	h.change++
	for i := range found {
		r := &found[i]
		if _, told := a.told[r.ID]; told {
			continue
		}
		a.told[r.ID] = now
		h.ring.push(event{change: h.change, kind: eventRefusals, device: r.Name, name: "refusal", fields: appendReject(nil, r)})
	}
	h.mu.Unlock()
	old := now.Add(-rejectSlack)
	if len(found) == rejectsAtOnce {
		a.low = found[len(found)-1].ID
	}
	for id, at := range a.told {
		if at.Before(old) {
			a.low = max(a.low, id)
		}
	}
	for id := range a.told {
		if id <= a.low {
			delete(a.told, id)
		}
	}
	return nil
}

func appendReject(dst []byte, r *storage.DeviceReject) []byte {
	dst = append(dst, `,"device":`...)
	dst = appendText(dst, r.Name)
	dst = append(dst, `,"time":`...)
	dst = appendTime(dst, r.At)
	dst = append(dst, `,"seq":`...)
	dst = appendNumber(dst, float64(r.Seq))
	dst = append(dst, `,"n":`...)
	dst = appendNumber(dst, float64(r.N))
	if r.Channel != "" {
		dst = append(dst, `,"channel":`...)
		dst = appendText(dst, r.Channel)
	}
	dst = append(dst, `,"code":`...)
	dst = appendText(dst, r.Code)
	dst = append(dst, `,"message":`...)
	return appendText(dst, r.Detail)
}
