package link

import (
	"slices"
	"time"
)

// Kind is what a path leads over.
type Kind uint8

// Kinds of paths.
const (
	Relay  Kind = iota + 1 // through an rdv server
	Direct                 // from peer to peer
)

// String returns "relay" or "direct".
func (k Kind) String() string {
	switch k {
	case Relay:
		return "relay"
	case Direct:
		return "direct"
	default:
		return "none"
	}
}

// Timing of the watch over paths.
const (
	// idlePing is how long a path may be silent until it is asked whether it
	// is still there. With idleGrace, a dead one is noticed within 18 s, and a
	// NAT that forgets connections after 30 s sees enough of it.
	idlePing  = 14 * time.Second
	idleGrace = 4 * time.Second

	// busyPing is the same for a path that is being used: something is
	// unacknowledged, or data came within busyFor. With busyGrace, a path that
	// was cut in mid-transfer is given up within 3.5 s.
	busyPing  = time.Second
	busyFor   = 5 * time.Second
	busyGrace = 2500 * time.Millisecond

	// graceRTTs is how many round trips an answer may take at least: a packet
	// may be lost, and lost again.
	graceRTTs = 4

	// stuckAfter is how long a path may bring nothing we sent to the peer, as
	// far as its answers tell, although we hear of the peer on it.
	stuckAfter = 10 * time.Second

	// switchWindow and maxSwitches bound how often a better path is moved to.
	// Leaving a path that died counts, and is never put off.
	switchWindow = time.Minute
	maxSwitches  = 2

	// standby is how long a relay is kept after the last data on it, once a
	// direct path is there: long enough for a NAT to show that it lets go
	// early, and then the server has its descriptors back.
	standby = time.Minute

	// firstRetry and lastRetry bound the pause between attempts at a direct
	// path; it doubles.
	firstRetry = 15 * time.Second
	lastRetry  = 15 * time.Minute

	// goodDirect is how long a direct path has to live for the pauses to begin
	// anew.
	goodDirect = time.Minute

	// doubtGrace is how long a path may be silent when the network has changed:
	// TCP sends a lost packet three times in that.
	doubtGrace = 1500 * time.Millisecond

	// meetSpacing is the least time between two attempts, however often the
	// network changes, and whatever the peer asks for.
	meetSpacing = 5 * time.Second

	// callSpacing is the least time between two attempts that the acceptor calls
	// for: each has the dialer knock at addresses of the acceptor's choice.
	callSpacing = time.Minute

	// maxPaths bounds the paths of a link: a relay and a direct path, and as many
	// that take their places before it is noticed that these are dead. The dialer
	// gives up what is too much; an evil one does not.
	maxPaths = 4
)

// slack is by how much a direct path may be slower than the relay and still
// be moved to: it costs nobody's bandwidth but the peers'.
func slack(relay time.Duration) time.Duration { return relay/4 + 10*time.Millisecond }

// A track is what is known of one path.
type track struct {
	id    int
	kind  Kind
	since time.Time
	heard time.Time // anything
	data  time.Time // data, either way; zero: none
	moved time.Time // when an acknowledgement came that said something new
	ping  uint64    // that was sent last; zero: none
	asked time.Time // when; zero: it was answered
	doubt time.Time // when the network changed, if no PING was answered since; zero: it did not
	rtt   time.Duration
	best  time.Duration // the shortest round trip; zero: not measured
	upTo  uint64        // offset behind what was sent on it
}

// A plan is what [tracks.advance] asks for.
type plan struct {
	ping []int // send a PING on these
	lose []int // these are dead: close them, and call lost
	idle []int // these are not needed any more: the same
	meet uint32
	call bool // ask the dialer for an attempt
}

// tracks decides which path to send on, which is dead, and when to look for a
// better one. It holds no clock and no socket: the owner reports what it sees,
// calls advance at next or at any other time, and does what the plan says.
type tracks struct {
	dialer  bool // the dialer plans attempts and ends standbys, for both
	retry   bool // attempts at a direct path are of use
	keep    bool // never drop a relay for being idle
	list    []*track
	active  int         // id of the path to send on; zero: none
	began   bool        // there has been one
	changes []time.Time // of the active path, those within switchWindow
	pings   uint64
	next    time.Time // when to call advance; zero: nothing to wait for

	meets   uint32 // attempts begun
	pause   time.Duration
	attempt time.Time // when the next attempt is due; zero: not planned
	met     time.Time // when the last one began, or was asked for
	hurry   bool      // the next one is due at once
	heeded  time.Time // when the peer last called for one, and was heard
}

func (t *tracks) find(id int) *track {
	for _, tr := range t.list {
		if tr.id == id {
			return tr
		}
	}
	return nil
}

// add enters a path on which both sides have said HELLO. rtt is zero where
// the exchange did not measure one.
func (t *tracks) add(now time.Time, id int, kind Kind, rtt time.Duration) {
	if len(t.list) == 0 { // its peer was met anew, which is an attempt, too
		t.hurry, t.pause, t.met = false, 0, now
	}
	t.list = append(t.list, &track{id: id, kind: kind, since: now, heard: now, moved: now, rtt: rtt, best: rtt})
	t.choose(now)
}

// lost takes a path out.
func (t *tracks) lost(now time.Time, id int) {
	t.list = slices.DeleteFunc(t.list, func(tr *track) bool {
		if tr.id == id && tr.kind == Direct && now.Sub(tr.since) >= goodDirect {
			t.pause = 0
		}
		return tr.id == id
	})
	if t.active == id {
		t.active = 0
	}
	t.choose(now)
}

// heardOn reports that something came by a path; data, that it was data.
func (t *tracks) heardOn(now time.Time, id int, data bool) {
	if tr := t.find(id); tr != nil {
		tr.heard = later(tr.heard, now)
		if data {
			tr.data = now
			t.wake(now.Add(busyPing))
		}
	}
}

// sentOn reports that data up to an offset goes out by a path.
func (t *tracks) sentOn(now time.Time, id int, upTo uint64) {
	if tr := t.find(id); tr != nil {
		tr.upTo = max(tr.upTo, upTo)
		tr.data = now
		t.wake(now.Add(busyPing))
	}
}

// acked reports that an acknowledgement said something new.
func (t *tracks) acked(now time.Time) {
	if tr := t.find(t.active); tr != nil {
		tr.moved = now
	}
}

// pong reports the answer to a PING.
func (t *tracks) pong(now time.Time, id int, ping uint64) {
	tr := t.find(id)
	if tr == nil || ping != tr.ping || tr.asked.IsZero() {
		return
	}
	t.measured(now, tr, now.Sub(tr.asked))
	if tr.asked.Before(tr.doubt) {
		t.wake(now) // an answer to what was asked before
	} else {
		tr.doubt = time.Time{}
	}
	tr.asked = time.Time{}
	t.choose(now)
}

// changed reports that this machine's network has changed: every path is asked
// whether it is there, and one that may be possible now is looked for.
func (t *tracks) changed(now time.Time) {
	for _, tr := range t.list {
		tr.doubt = now
	}
	t.hurry = true
	t.next = now
}

// called reports that the peer's network has changed.
func (t *tracks) called(now time.Time) {
	if !t.heeded.IsZero() && now.Sub(t.heeded) < callSpacing {
		return
	}
	t.heeded, t.hurry = now, true
	t.wake(now)
}

// surplus returns the path to give up if there are too many: the oldest that is
// not sent on. Zero is none.
func (t *tracks) surplus() int {
	if len(t.list) <= maxPaths {
		return 0
	}
	for _, tr := range t.list {
		if tr.id != t.active {
			return tr.id
		}
	}
	return 0
}

func (t *tracks) measured(now time.Time, tr *track, rtt time.Duration) {
	tr.rtt, tr.moved = rtt, now
	if tr.best == 0 || rtt < tr.best {
		tr.best = max(rtt, 1)
	}
}

// choose moves to a better path, if there is one and it may.
func (t *tracks) choose(now time.Time) {
	old := t.find(t.active)
	best := old
	for _, tr := range t.list {
		if better(tr, best) {
			best = tr
		}
	}
	if best == old || best == nil {
		return
	}
	t.forget(now)
	if old != nil && len(t.changes) >= maxSwitches {
		return // put off; advance asks again
	}
	t.active = best.id
	if t.began { // the first path is no change
		t.changes = append(t.changes, now)
	}
	t.began = true
}

// forget leaves out the changes that are not counted any more.
func (t *tracks) forget(now time.Time) {
	t.changes = slices.DeleteFunc(t.changes, func(at time.Time) bool { return now.Sub(at) >= switchWindow })
}

// better reports whether a should be sent on rather than b, which may be nil.
// Between two of a kind the one that is there stays.
func better(a, b *track) bool {
	switch {
	case b == nil:
		return true
	case a.kind == b.kind, b.kind == Direct:
		return false
	}
	// From the relay to a direct path, if it is not slower.
	return a.best > 0 && (b.best == 0 || a.best <= b.best+slack(b.best))
}

// advance returns what is to be done at now. unacked says that something that
// was sent waits for its acknowledgement.
func (t *tracks) advance(now time.Time, unacked bool) (p plan) {
	t.forget(now)
	t.choose(now)
	t.next = time.Time{}
	if active := t.find(t.active); active != nil {
		t.watch(now, active, t.busy(now, active, unacked), &p)
		for _, tr := range t.list {
			if tr != active {
				t.watchStandby(now, tr, active, unacked, &p)
			}
		}
	}
	if len(p.lose) > 0 {
		p.idle = nil // what was not needed may be, now
	}
	t.schedule(now, &p)
	if active := t.find(t.active); active != nil && len(t.changes) >= maxSwitches {
		t.wake(t.changes[0].Add(switchWindow))
	}
	return p
}

// busy reports whether a path is being used.
func (t *tracks) busy(now time.Time, tr *track, unacked bool) bool {
	return tr.id == t.active && unacked || !tr.data.IsZero() && now.Sub(tr.data) < busyFor
}

// watchStandby looks after a path that is not sent on. While the one that is
// being used does not answer, it has to show that it is there: the two may have
// died of the same, and there is no time to ask one after the other.
func (t *tracks) watchStandby(now time.Time, tr, active *track, unacked bool, p *plan) {
	if t.ended(now, tr, active) {
		p.idle = append(p.idle, tr.id)
		return
	}
	busy := t.busy(now, tr, unacked)
	if busy {
		t.wake(tr.data.Add(busyFor))
	}
	if !active.asked.IsZero() && t.busy(now, active, unacked) {
		busy = true
		if tr.asked.IsZero() && tr.heard.Before(active.asked) {
			t.ask(now, tr, p)
		}
	}
	t.watch(now, tr, busy, p)
}

// watch asks whether a path is there, or gives it up.
func (t *tracks) watch(now time.Time, tr *track, busy bool, p *plan) {
	after, grace := idlePing, idleGrace
	if busy {
		after, grace = busyPing, busyGrace
	}
	if !tr.doubt.IsZero() {
		after, grace = 0, doubtGrace
	}
	due := tr.heard.Add(after)
	if tr.asked.IsZero() && (tr.best == 0 || !now.Before(due)) {
		t.ask(now, tr, p)
	}
	if tr.asked.IsZero() {
		t.wake(due)
		return
	}
	// An answer may wait behind data, so that anything heard will do, but not
	// for ever.
	grace = max(grace, graceRTTs*tr.rtt)
	quiet := later(later(tr.asked, tr.heard), tr.doubt).Add(grace)
	stuck := later(tr.asked, tr.moved).Add(max(stuckAfter, grace))
	if !now.Before(quiet) || !now.Before(stuck) {
		p.lose = append(p.lose, tr.id)
		return
	}
	t.wake(quiet)
	t.wake(stuck)
}

// ask has a PING sent.
func (t *tracks) ask(now time.Time, tr *track, p *plan) {
	t.pings++
	tr.ping, tr.asked = t.pings, now
	p.ping = append(p.ping, tr.id)
}

// ended reports whether nobody needs tr, which is not the active path: a relay,
// or a second direct path. Otherwise it sees to it that tr is looked at in time.
func (t *tracks) ended(now time.Time, tr, active *track) bool {
	if !t.dialer || active.kind != Direct || t.keep && tr.kind == Relay {
		return false
	}
	until := later(later(tr.since, tr.data), active.since).Add(standby)
	if !now.Before(until) {
		return true
	}
	t.wake(until)
	return false
}

// schedule plans attempts at a direct path, rarer and rarer; or has the dialer
// asked for one, if the network changed on this side.
func (t *tracks) schedule(now time.Time, p *plan) {
	direct := slices.ContainsFunc(t.list, func(tr *track) bool { return tr.kind == Direct })
	if !t.retry || direct || t.active == 0 {
		t.attempt = time.Time{}
		return
	}
	if !t.dialer {
		if t.hurry {
			t.hurry, p.call = false, true
		}
		return
	}
	if t.attempt.IsZero() {
		t.pause = min(max(2*t.pause, firstRetry), lastRetry)
		t.attempt = now.Add(t.pause)
	}
	if soon := t.met.Add(meetSpacing); t.hurry && t.attempt.After(soon) {
		t.attempt, t.pause = soon, 0
	}
	if !now.Before(t.attempt) {
		t.meets++
		p.meet = t.meets
		t.met, t.hurry = now, false
		t.pause = min(max(2*t.pause, firstRetry), lastRetry)
		t.attempt = now.Add(t.pause)
	}
	t.wake(t.attempt)
}

func (t *tracks) wake(at time.Time) {
	if t.next.IsZero() || at.Before(t.next) {
		t.next = at
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
