// Command connectproxy is an HTTP proxy that only makes tunnels, as the one way out of
// many networks is. Standard library only.
//
//	connectproxy -listen :3128
package main

import (
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"time"
)

func main() {
	listen := flag.String("listen", ":3128", "address")
	flag.Parse()
	srv := &http.Server{Addr: *listen, Handler: http.HandlerFunc(tunnel), ReadHeaderTimeout: 5 * time.Second}
	log.Fatal(srv.ListenAndServe())
}

func tunnel(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodConnect {
		http.Error(w, "CONNECT only", http.StatusMethodNotAllowed)
		return
	}
	up, err := net.DialTimeout("tcp", r.Host, 5*time.Second)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer up.Close()
	down, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		log.Print(err)
		return
	}
	defer down.Close()
	fmt.Fprint(down, "HTTP/1.1 200 Connection established\r\n\r\n")
	var wg sync.WaitGroup
	for _, p := range [][2]net.Conn{{up, down}, {down, up}} {
		wg.Go(func() {
			io.Copy(p[0], p[1])
			p[0].(*net.TCPConn).CloseWrite()
		})
	}
	wg.Wait()
}
