package discv5

import (
	"net/netip"
	"time"

	"github.com/muster-p2p/muster/discv5/wire"
	"github.com/muster-p2p/muster/enr"
)

// checkSoon sees to it that newcomers are pinged soon, and not in the same
// instant: their handshake must end first.
func (c *core) checkSoon(now time.Time) {
	if c.table.unchecked == 0 {
		return
	}
	if c.check.Before(now) {
		c.check = now.Add(checkEvery)
	}
	if c.check.Before(c.wake) {
		c.out.kick = true
	}
}

// fetch asks a node for its record if it says to have a newer one: "When the
// PONG response indicates that a new version of the node record is available,
// the liveness check should pull the new record and update it in the local
// table." Each number is asked for once.
func (c *core) fetch(now time.Time, e *entry, seq uint64) {
	if seq <= e.record.Seq() || seq <= e.wanted {
		return
	}
	e.wanted = seq
	r := &request{kind: wire.KindFindNode, distances: []uint16{0}}
	_ = c.begin(now, r, e.record, e.addr, c.out) // a busy peer is asked next time
}

// fetched takes a record that a node sent of itself.
func (c *core) fetched(now time.Time, j *job, out *outbox) {
	c.out = out
	if j.fresh.ID() != j.at.id || c.table.get(j.at.id) == nil {
		return
	}
	c.table.add(now, j.fresh)
	c.checkSoon(now)
}

// ping sends a PING that nobody waits for.
func (c *core) ping(now time.Time, e *entry) {
	e.pinging, e.pinged = true, now
	r := &request{kind: wire.KindPing}
	if err := c.begin(now, r, e.record, e.addr, c.out); err != nil {
		e.pinging = false
	}
}

// tick does what is due and returns when to call it again. Calling it earlier
// or later does no harm.
func (c *core) tick(now time.Time, out *outbox) time.Time {
	c.out = out
	for _, l := range [...]*requestList{&c.probing, &c.waiting, &c.partial} {
		for l.oldest != nil && !l.oldest.due.After(now) {
			c.expire(now, l.oldest)
		}
	}
	c.talks.expire(now, c)
	if !c.check.After(now) {
		if e := c.table.toCheck(now); e != nil {
			c.ping(now, e)
		}
		c.check = now.Add(checkEvery)
		if c.table.toCheck(now) == nil {
			c.check = now.Add(recheckEvery)
		}
	}
	if !c.revalid.After(now) {
		if e := c.table.toRevalidate(); e != nil {
			c.ping(now, e)
		}
		c.revalid = now.Add(time.Duration(c.rnd.Int64N(int64(c.cfg.revalidateMax))))
	}
	if !c.sweep.After(now) {
		c.sessions.sweep()
		c.challenges.expire(now)
		c.sweep = now.Add(sweepEvery)
	}
	if !c.refresh.After(now) {
		out.refresh = true
		c.every = min(refreshGrowth*c.every, c.cfg.refreshInterval)
		c.refresh = now.Add(c.every)
	}
	if soon := now.Add(aloneRefresh); soon.Before(c.refresh) && c.table.lonely() {
		c.refresh = soon
	}
	if !c.vote.After(now) {
		c.checkVote(now, true)
		c.vote = now.Add(c.cfg.voteInterval)
	}
	c.wake = c.next()
	return c.wake
}

func (c *core) next() time.Time {
	next := c.sweep
	for _, t := range [...]time.Time{c.revalid, c.refresh, c.vote, c.talks.next()} {
		if !t.IsZero() && t.Before(next) {
			next = t
		}
	}
	if c.table.unchecked > 0 && c.check.Before(next) {
		next = c.check
	}
	for _, l := range [...]*requestList{&c.probing, &c.waiting, &c.partial} {
		if l.oldest != nil && l.oldest.due.Before(next) {
			next = l.oldest.due
		}
	}
	return next
}

// checkVote asks for the record to be updated if the peers agree that we are
// elsewhere. Between the regular times it does so only for a record that has
// no endpoint at all, with which nobody can find us.
func (c *core) checkVote(now time.Time, regular bool) {
	if !c.cfg.autoUpdate || len(c.votes.votes) < minVoters || !regular && now.Before(c.recount) {
		return
	}
	c.recount = now.Add(recountEvery)
	for _, v4 := range [...]bool{true, false} {
		var have netip.AddrPort
		var ok bool
		if v4 {
			have, ok = c.local.UDPEndpoint4()
		} else {
			have, ok = c.local.UDPEndpoint6()
		}
		if ok && !regular {
			continue
		}
		if ap, won := c.votes.winner(now, v4); won && ap != have {
			c.out.votes = append(c.out.votes, ap)
		}
	}
}

// replaceLocal takes local as the node's own record. All nodes in the table
// are to be pinged, since a PING tells of its number. If the endpoint has
// changed, the next request to each goes with a new handshake: nodes take
// others into their tables when these shake hands, and one that did not know
// its endpoint before, or called from another, has no seat anywhere.
func (c *core) replaceLocal(now time.Time, local *enr.Record, out *outbox) {
	c.out = out
	if !sameEndpoints(c.local, local) {
		c.sessions.era++
	}
	c.local = local
	c.stats.RecordUpdates++
	c.table.all(func(e *entry) { c.table.setDue(e, true) })
	c.checkSoon(now)
	c.event(Event{Kind: RecordUpdated, ID: c.self, Record: local})
}
