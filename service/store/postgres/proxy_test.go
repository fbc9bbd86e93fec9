package postgres

import (
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/tcmanager/tcmanager/service/store/postgres/pgtest"
)

// proxy stands between a store and its database and does harm to what passes.
type proxy struct {
	l  net.Listener
	to string

	mu     sync.Mutex
	closed bool // guarded by mu, as all below
	deaf   bool // answers of the database are thrown away, and the connection is cut at the first
	mute   bool // what the store says is thrown away, and the connection is cut
	pairs  map[net.Conn]net.Conn
	all    sync.WaitGroup
}

// proxied returns an address of a database with a proxy in front of it.
func proxied(t testing.TB, dsn string) (*proxy, string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{l: l, to: pgtest.Shared(t).Addr(), pairs: map[net.Conn]net.Conn{}}
	p.all.Go(p.accept)
	t.Cleanup(func() {
		_ = l.Close()
		p.refuse(true)
		p.all.Wait()
	})
	return p, strings.Replace(dsn, p.to, l.Addr().String(), 1)
}

func (p *proxy) accept() {
	for {
		from, err := p.l.Accept()
		if err != nil {
			return
		}
		to, err := net.Dial("tcp", p.to)
		p.mu.Lock()
		if p.closed || err != nil {
			_ = from.Close()
			if err == nil {
				_ = to.Close()
			}
			p.mu.Unlock()
			continue
		}
		p.pairs[from] = to
		p.mu.Unlock()
		p.all.Go(func() { p.pipe(to, from, func() bool { return p.mute }, from) })
		p.all.Go(func() { p.pipe(from, to, func() bool { return p.deaf }, from) })
	}
}

// pipe copies until one side ends, or until drop says that what was read is to be
// thrown away.
func (p *proxy) pipe(to io.Writer, from io.Reader, drop func() bool, key net.Conn) {
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		p.mu.Lock()
		dropped := n > 0 && drop()
		p.mu.Unlock()
		if err == nil && !dropped {
			_, err = to.Write(buf[:n])
		}
		if err != nil || dropped {
			p.cut(key)
			return
		}
	}
}

func (p *proxy) cut(key net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if to, ok := p.pairs[key]; ok {
		delete(p.pairs, key)
		_ = key.Close()
		_ = to.Close()
	}
}

// refuse cuts all connections and takes no new ones, or takes them again.
func (p *proxy) refuse(on bool) {
	p.mu.Lock()
	p.closed = on
	var keys []net.Conn
	for key := range p.pairs {
		keys = append(keys, key)
	}
	p.mu.Unlock()
	for _, key := range keys {
		p.cut(key)
	}
}

// set changes how it harms what passes.
func (p *proxy) set(fn func(*proxy)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fn(p)
}

// fine ends all harm.
func (p *proxy) fine() { p.set(func(p *proxy) { p.closed, p.deaf, p.mute = false, false, false }) }
