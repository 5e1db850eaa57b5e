package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/muster-p2p/muster"
	"github.com/muster-p2p/muster/reach/wire"
	"github.com/muster-p2p/muster/ticket"
)

// A who is the peer that a verb is to call: by a ticket, by its ID, or by name.
// Exactly one of ticket, id and name is set.
type who struct {
	text   string
	ticket *ticket.Ticket
	id     peer.ID
	name   muster.Name
}

// whoHint says what a WHO may be.
const whoHint = "WHO is a ticket, as 'muster listen' prints it, a name like lab/nas, or a peer ID"

// parseWho reads a WHO.
func parseWho(s string) (who, error) {
	w := who{text: s}
	if ticket.Is(s) {
		t, err := ticket.Parse(s)
		if err != nil {
			return w, ticketFailure(err)
		}
		w.ticket, w.text = &t, t.Peer.String()
		return w, nil
	}
	if strings.Contains(s, "/") {
		n, err := muster.ParseName(s)
		if err != nil {
			return w, usageError(err, whoHint)
		}
		w.name = n
		return w, nil
	}
	id, err := peer.Decode(s)
	if err != nil {
		return w, usageError(fmt.Errorf("%q is no peer: %w", s, err), whoHint)
	}
	w.id = id
	return w, nil
}

// ticketFailure gives an error of ticket.Parse its exit code; the error says
// what to do already.
func ticketFailure(err error) error {
	if errors.Is(err, ticket.ErrVersion) {
		return fail(exitVersion, err, "")
	}
	return usageError(err, "")
}

// parseWhoService reads WHO:SERVICE; the last colon behind the last slash
// divides. Without a colon the service is the pipe of 'muster listen'.
func parseWhoService(s string) (w who, service string, err error) {
	if i := strings.LastIndexByte(s, ':'); i > strings.LastIndexByte(s, '/') {
		s, service = s[:i], s[i+1:]
		if service == "" || !validService(service) {
			return w, "", usageError(fmt.Errorf("%q is not the name of a service", service), serviceHint)
		}
	}
	w, err = parseWho(s)
	return w, service, err
}

// serviceHint says how services are named.
const serviceHint = "a service has a name like ssh: 1 to 64 letters, digits, '-', '.' and '_', with a letter or digit first"

// validService reports whether a user may give a service that name: those with
// an underscore in front are muster's own.
func validService(s string) bool {
	return s != "" && wire.ValidService(s) && !strings.ContainsAny(s[:1], "-._")
}

// parsePeerIDs reads a list of peer IDs.
func parsePeerIDs(option string, list []string) ([]peer.ID, error) {
	var ids []peer.ID
	for _, s := range list {
		id, err := peer.Decode(strings.TrimSpace(s))
		if err != nil {
			return nil, usageError(fmt.Errorf("%s %q: %w", option, s, err), "a peer ID looks like 12D3Koo…; 'muster key show FILE' prints one")
		}
		ids = append(ids, id)
	}
	return ids, nil
}
