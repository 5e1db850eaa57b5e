// Command point-berty is berty's go-libp2p-rendezvous on SQLite, filled with
// rows. They are inserted in bulk: by its own Register a million would take
// half a day.
package main

import (
	"context"
	"database/sql"
	"encoding/binary"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"time"

	bertyrendezvous "github.com/berty/go-libp2p-rendezvous"
	bertydb "github.com/berty/go-libp2p-rendezvous/db/sqlite"

	"github.com/muster-p2p/muster/bench/rendezvous/internal/rows"
)

func main() {
	dir := flag.String("dir", "", "where the database is kept")
	n := flag.Int("rows", 0, "registrations to start with")
	flag.Parse()
	if err := run(*dir, *n); err != nil {
		fmt.Fprintln(os.Stderr, "point-berty:", err)
		os.Exit(1)
	}
}

func run(dir string, n int) error {
	file := filepath.Join(dir, "rendezvous.db")
	db, err := bertydb.OpenDB(context.Background(), file)
	if err != nil {
		return err
	}
	if err := db.Close(); err != nil {
		return err
	}
	if err := fill(file, n); err != nil {
		return err
	}
	db, err = bertydb.OpenDB(context.Background(), file)
	if err != nil {
		return err
	}
	defer db.Close()
	h, err := rows.NewHost(true)
	if err != nil {
		return err
	}
	defer h.Close()
	bertyrendezvous.NewRendezvousService(h, db)
	return rows.Serve(h, 0)
}

func fill(file string, n int) error {
	db, err := sql.Open("sqlite3", file)
	if err != nil {
		return err
	}
	defer db.Close()
	tx, err := db.Begin()
	if err != nil {
		return err
	}
	defer tx.Rollback()
	insert, err := tx.Prepare("INSERT INTO Registrations VALUES (NULL, ?, ?, ?, ?)")
	if err != nil {
		return err
	}
	var ids [rows.PerNamespace]string
	for i := range ids {
		_, id, err := rows.Peer(i)
		if err != nil {
			return err
		}
		ids[i] = id.String()
	}
	expire := time.Now().Unix() + rows.TTL
	addrs := packAddrs()
	for ns := range n / rows.PerNamespace {
		for _, id := range ids {
			if _, err := insert.Exec(id, rows.Namespace(ns), expire, addrs); err != nil {
				return err
			}
		}
	}
	return tx.Commit()
}

// packAddrs is how the database keeps addresses: each behind its length.
func packAddrs() []byte {
	var b []byte
	for _, a := range rows.Addrs() {
		b = binary.BigEndian.AppendUint16(b, uint16(len(a.Bytes())))
		b = append(b, a.Bytes()...)
	}
	return b
}
