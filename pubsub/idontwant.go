package pubsub

// How IDONTWANT is tuned to what it does. On a quick network a duplicate is
// under way before an IDONTWANT arrives: it prevents nothing and costs as much
// as a small message. For each peer the messages are split into those for
// which IDONTWANT is sent and a quarter for which it is not; if as many
// duplicates come of the one as of the other, the size from which it is sent
// is doubled, and if it helps, it is halved again.
const (
	idwControl   = 4        // one message in so many is sent none
	idwWindow    = 256      // messages per decision
	idwUseful    = 0.05     // a smaller gain than this share of messages is none
	idwMaxDouble = 6        // the threshold is raised at most 2^6 times: 1 KiB to 64 KiB
	idwAlways    = 64 << 10 // from this size on it is always sent
)

// An idontwantTuner decides for one peer. It is pure and has one owner.
type idontwantTuner struct {
	doubled             int
	sent, sentDup       int // treated
	withheld, withheldD int // control
}

// threshold returns the size from which IDONTWANT is sent.
func (t *idontwantTuner) threshold(base int) int { return base << t.doubled }

// control reports whether a message is one for which none is sent, whatever
// happens: the same answer each time, so that nothing need be remembered.
func (t *idontwantTuner) control(k seenKey) bool { return k[14]%idwControl == 0 }

// send decides on a message of size bytes, of base at least.
func (t *idontwantTuner) send(k seenKey, size, base int) bool {
	if size >= idwAlways {
		return true
	}
	if size < t.threshold(base) {
		return false
	}
	if t.control(k) {
		t.withheld++
		return false
	}
	t.sent++
	t.decide()
	return true
}

// duplicate notes that the peer sent a message of size bytes all the same.
func (t *idontwantTuner) duplicate(k seenKey, size, base int) {
	if size < t.threshold(base) || size >= idwAlways {
		return
	}
	if t.control(k) {
		t.withheldD++
	} else {
		t.sentDup++
	}
}

func (t *idontwantTuner) decide() {
	if t.sent < idwWindow || t.withheld == 0 {
		return
	}
	gain := float64(t.withheldD)/float64(t.withheld) - float64(t.sentDup)/float64(t.sent)
	switch {
	case gain < idwUseful && t.doubled < idwMaxDouble:
		t.doubled++
	case gain > 4*idwUseful && t.doubled > 0:
		t.doubled--
	}
	t.sent, t.sentDup, t.withheld, t.withheldD = 0, 0, 0, 0
}
