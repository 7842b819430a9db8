package door

import (
	"container/list"
	"net"
	"net/netip"
)

// Visit is a connection that is open and has not brought its first frame. Who
// does nothing must not keep others out, so when there are too many the oldest
// is closed, not the newest refused: an honest handshake takes a few round
// trips, and the oldest are those that wait for nothing.
type Visit struct {
	door    *Door
	conn    net.Conn
	inAll   *list.Element // nil: over
	address netip.Addr    // its group
	ofOne   *list.Element // nil: the address is not limited, or not known yet
}

// Evictions counts visits that were closed to make room; totals.
type Evictions struct{ All, Address uint64 }

// arrive takes a visitor in.
func (d *Door) arrive(conn net.Conn) *Visit {
	v := &Visit{door: d, conn: conn}
	d.mu.Lock()
	v.inAll = d.visits.PushBack(v)
	var oldest *Visit
	if d.cfg.Unfinished > 0 && d.visits.Len() > d.cfg.Unfinished {
		oldest = d.visits.Front().Value.(*Visit)
		oldest.forget()
		d.evicted.All++
	}
	d.mu.Unlock()
	if oldest != nil {
		_ = oldest.conn.Close() // whoever reads from it will see
	}
	return v
}

// from says which address the visitor has; called once.
func (v *Visit) from(address netip.Addr) {
	d := v.door
	if !d.limited(address) || d.cfg.AddressUnfinished < 0 {
		return
	}
	d.mu.Lock()
	var oldest *Visit
	if v.inAll != nil { // else it was closed meanwhile
		v.address = group(address)
		of := d.byAddress[v.address]
		if of == nil {
			of = list.New()
			d.byAddress[v.address] = of
		}
		v.ofOne = of.PushBack(v)
		if of.Len() > d.cfg.AddressUnfinished {
			oldest = of.Front().Value.(*Visit)
			oldest.forget()
			d.evicted.Address++
		}
	}
	d.mu.Unlock()
	if oldest != nil {
		_ = oldest.conn.Close()
	}
}

// End says that the visitor has brought its first frame, or is gone. It may be
// called any number of times, also on nil, which nobody counts.
func (v *Visit) End() {
	if v == nil {
		return
	}
	v.door.mu.Lock()
	defer v.door.mu.Unlock()
	v.forget()
}

// forget strikes the visit off; the door's lock is held.
func (v *Visit) forget() {
	if v.inAll == nil {
		return
	}
	d := v.door
	d.visits.Remove(v.inAll)
	v.inAll = nil
	if v.ofOne == nil {
		return
	}
	of := d.byAddress[v.address]
	of.Remove(v.ofOne)
	v.ofOne = nil
	if of.Len() == 0 {
		delete(d.byAddress, v.address)
	}
}

// Visits is the number of unfinished connections.
func (d *Door) Visits() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.visits.Len()
}

// Evicted counts the visits that were closed to make room.
func (d *Door) Evicted() Evictions {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.evicted
}
