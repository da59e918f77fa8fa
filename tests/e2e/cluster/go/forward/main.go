// Command forward makes one port of a node reachable from the machine that the node runs on.
//
// It is started in the node's pid and mount namespace, so that it ends with the node, but in the machine's network
// namespace: there it listens, and it dials from a thread that went over to the network of process 1. No interface
// is added to the machine and no route leads into or out of the node.
package main

import (
	"fmt"
	"io"
	"log"
	"net"
	"net/netip"
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

type dialed struct {
	conn *net.TCPConn
	err  error
}

func main() {
	if len(os.Args) != 3 {
		log.Fatalf("usage: %s LISTEN TARGET (each IP:PORT)", os.Args[0])
	}
	listen, err := netip.ParseAddrPort(os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	target, err := netip.ParseAddrPort(os.Args[2])
	if err != nil {
		log.Fatal(err)
	}
	// Listen first: the socket belongs to the network that this process started in.
	listener, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(listen))
	if err != nil {
		log.Fatal(err)
	}
	ask := make(chan chan dialed)
	ready := make(chan error)
	go dialer(net.TCPAddrFromAddrPort(target), ask, ready)
	if err := <-ready; err != nil {
		log.Fatal(err)
	}
	for {
		outer, err := listener.AcceptTCP()
		if err != nil {
			log.Print(err)
			time.Sleep(100 * time.Millisecond)
			continue
		}
		go serve(outer, ask)
	}
}

// dialer connects for everybody, from the one thread that is in the node's network. The thread is never given back.
func dialer(target *net.TCPAddr, ask <-chan chan dialed, ready chan<- error) {
	runtime.LockOSThread()
	ready <- enter("/proc/1/ns/net")
	for answer := range ask {
		conn, err := net.DialTCP("tcp", nil, target)
		answer <- dialed{conn, err}
	}
}

func enter(namespace string) error {
	file, err := os.Open(namespace)
	if err != nil {
		return err
	}
	defer file.Close()
	if err := unix.Setns(int(file.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("entering %s: %w", namespace, err)
	}
	return nil
}

func serve(outer *net.TCPConn, ask chan<- chan dialed) {
	defer outer.Close()
	answer := make(chan dialed)
	ask <- answer
	inner := <-answer
	if inner.err != nil {
		log.Print(inner.err)
		return
	}
	defer inner.conn.Close()
	done := make(chan struct{})
	go func() {
		carry(inner.conn, outer)
		close(done)
	}()
	carry(outer, inner.conn)
	<-done
}

// carry passes the end of the stream on and leaves the other direction open.
func carry(to, from *net.TCPConn) {
	if _, err := io.Copy(to, from); err != nil {
		// A reset ends both directions; half a conversation helps nobody.
		to.Close()
		from.Close()
		return
	}
	to.CloseWrite()
}
