package edge

import (
	"net"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// ListenerMetrics count the connections of all listeners.
type ListenerMetrics struct {
	open    *prometheus.GaugeVec
	refused *prometheus.CounterVec
}

// NewListenerMetrics makes the metrics and registers them.
func NewListenerMetrics(r prometheus.Registerer) (*ListenerMetrics, error) {
	m := &ListenerMetrics{
		open:    prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "tcmanager_connections", Help: "Open connections."}, []string{"listener"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "tcmanager_connections_refused_total", Help: "Connections refused because there were too many."}, []string{"listener"}),
	}
	return m, register(r, m.open, m.refused)
}

// Limit returns a listener that closes a connection at once when there are limit
// of them already. Waiting instead would let those who hold theirs for nothing
// keep everyone out without a trace.
func (m *ListenerMetrics) Limit(l net.Listener, name string, limit int) net.Listener {
	return &limitedListener{
		Listener: l, limit: int64(limit),
		gauge: m.open.WithLabelValues(name), refused: m.refused.WithLabelValues(name),
	}
}

type limitedListener struct {
	net.Listener
	limit   int64
	open    atomic.Int64
	gauge   prometheus.Gauge
	refused prometheus.Counter
}

func (l *limitedListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if l.open.Add(1) <= l.limit {
			l.gauge.Inc()
			return &limitedConn{Conn: c, of: l}, nil
		}
		l.open.Add(-1)
		l.refused.Inc()
		// The peer learns from the reset; there is nobody to tell of an error.
		_ = c.Close()
	}
}

type limitedConn struct {
	net.Conn
	of      *limitedListener
	closed  atomic.Bool
	written atomic.Uint32 // how often
	ready   *readyReader  // made by the first ReadOnReady
}

func (c *limitedConn) Write(p []byte) (int, error) {
	c.written.Add(1)
	return c.Conn.Write(p)
}

func (c *limitedConn) Close() error {
	if !c.closed.Swap(true) {
		c.of.open.Add(-1)
		c.of.gauge.Dec()
	}
	return c.Conn.Close()
}

// NetConn returns the connection underneath, as tls.Conn does.
func (c *limitedConn) NetConn() net.Conn { return c.Conn }

func register(r prometheus.Registerer, collectors ...prometheus.Collector) error {
	for _, c := range collectors {
		if err := r.Register(c); err != nil {
			return err
		}
	}
	return nil
}
