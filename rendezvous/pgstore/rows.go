package pgstore

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/muster-p2p/muster/rendezvous"
)

// applyLimit is how many changes apply is called with at most when they are
// read from the database.
const applyLimit = 1024

// applyRows applies the rows of selectChanges as they come. asked is the local
// time before the question was sent: what the database says is left was left
// after that, so nothing is given more.
func (o *owner) applyRows(rows pgx.Rows, asked time.Time, removals bool) error {
	defer rows.Close()
	ns := ""
	for rows.Next() {
		c, err := scanRow(rows, ns, asked)
		if err != nil {
			return err
		}
		ns = c.NS
		if c.Pos <= o.last {
			continue
		}
		o.last = c.Pos
		if c.Removed && !removals {
			continue
		}
		o.batch = append(o.batch, c)
		if len(o.batch) == applyLimit {
			o.flush()
		}
	}
	o.flush()
	return rows.Err()
}

// flush applies the batch.
func (o *owner) flush() {
	if len(o.batch) > 0 {
		o.apply(o.batch)
	}
	clear(o.batch) // the records are not ours
	o.batch = o.batch[:0]
}

// scanRow reads a row. ns is the namespace of the row before: rows that follow
// each other often share it.
func scanRow(rows pgx.Rows, ns string, asked time.Time) (c rendezvous.Change, err error) {
	var (
		realm, form         int16
		name, id, source    []byte
		pos, seq, ttl, left int64
	)
	err = rows.Scan(&realm, &name, &id, &pos, &c.Removed, &form, &seq, &ttl, &left, &source, &c.Record)
	if err != nil {
		return c, err
	}
	if string(name) != ns {
		ns = string(name)
	}
	c.Key = rendezvous.Key{Realm: rendezvous.Realm(realm), NS: ns, Peer: peer.ID(id)}
	c.Pos, c.Seq, c.Form = uint64(pos), uint64(seq), rendezvous.Form(form)
	c.TTL = time.Duration(ttl) * time.Millisecond
	c.Expires = asked.Add(time.Duration(left) * time.Millisecond)
	if source != nil {
		var ok bool
		if c.Source, ok = netip.AddrFromSlice(source); !ok {
			return c, fmt.Errorf("pgstore: position %d has a source of %d bytes", pos, len(source))
		}
	}
	return c, nil
}

// columns are changes as the arrays that unnest takes.
type columns struct {
	realm, form    []int16
	ns, peer       [][]byte
	pos, seq       []int64
	ttl, left      []int64
	source, record [][]byte
}

func (c *columns) add(r *rendezvous.Change, now time.Time) {
	c.realm = append(c.realm, int16(r.Realm))
	c.ns = append(c.ns, []byte(r.NS))
	c.peer = append(c.peer, []byte(r.Peer))
	c.pos = append(c.pos, int64(r.Pos))
	if r.Removed {
		return
	}
	c.form = append(c.form, int16(r.Form))
	c.seq = append(c.seq, int64(r.Seq))
	c.ttl = append(c.ttl, r.TTL.Milliseconds())
	c.left = append(c.left, r.Expires.Sub(now).Milliseconds())
	c.source = append(c.source, r.Source.AsSlice())
	record := r.Record
	if record == nil {
		record = []byte{}
	}
	c.record = append(c.record, record)
}

// upsert puts registrations in the place of those with their keys. keep grows
// only: another point may still hold the state before, until that expires.
const upsert = `
	insert into muster_registration as r
	       (realm, ns, peer, pos, removed, form, seq, ttl_ms, expires, keep, source, record)
	select realm, ns, peer, pos, false, form, seq, ttl_ms, expires, expires, source, record
	from (select *, $11::timestamptz + left_ms * interval '1 millisecond' as expires
	      from unnest($1::smallint[], $2::bytea[], $3::bytea[], $4::bigint[], $5::smallint[],
	                  $6::bigint[], $7::bigint[], $8::bigint[], $9::bytea[], $10::bytea[])
	           as t (realm, ns, peer, pos, form, seq, ttl_ms, left_ms, source, record)) as t
	on conflict (realm, ns, peer) do update
	set pos = excluded.pos, removed = false, form = excluded.form, seq = excluded.seq,
	    ttl_ms = excluded.ttl_ms, expires = excluded.expires,
	    keep = greatest(r.keep, excluded.keep), source = excluded.source, record = excluded.record`

// remove marks registrations as gone, if they are there.
const remove = `
	update muster_registration r set pos = t.pos, removed = true, source = null, record = ''
	from unnest($1::smallint[], $2::bytea[], $3::bytea[], $4::bigint[]) as t (realm, ns, peer, pos)
	where r.realm = t.realm and r.ns = t.ns and r.peer = t.peer and not r.removed`

// upsertArgs are for upsert; at is when there was left what the columns say.
func (c *columns) upsertArgs(at time.Time) []any {
	return []any{c.realm, c.ns, c.peer, c.pos, c.form, c.seq, c.ttl, c.left, c.source, c.record, at}
}

func (c *columns) removeArgs() []any { return []any{c.realm, c.ns, c.peer, c.pos} }

// build sorts numbered changes into what is upserted and what is removed. now is
// when the lifetimes that are left begin. Of
// changes with one key the last counts: a statement may touch a row once, and
// others never see what is between.
func build(changes []rendezvous.Change, now time.Time) (up, gone columns) {
	last := make(map[rendezvous.Key]int, len(changes))
	for i := range changes {
		last[changes[i].Key] = i
	}
	for i := range changes {
		c := &changes[i]
		switch {
		case last[c.Key] != i:
		case c.Removed:
			gone.add(c, now)
		default:
			up.add(c, now)
		}
	}
	return up, gone
}

// dropExpired drops rows that nobody can hold any more. Rows that another point
// is about to drop are left to it.
const dropExpired = `
	delete from muster_registration r
	using (select realm, ns, peer from muster_registration
	       where keep < clock_timestamp() + $1 * interval '1 millisecond'
	       order by keep limit $2 for update skip locked) d
	where r.realm = d.realm and r.ns = d.ns and r.peer = d.peer`

// dropWriters drops the notes of stores that are long gone. One that still is,
// and has committed nothing for as long, writes a new one.
const dropWriters = "delete from muster_writer where at < now() - interval '7 days'"
