//go:build !unix

package websocket

// poll is empty where a socket can't be asked what it takes: a connection then
// holds a chunk while it rests, and what is written takes a goroutine.
type poll struct{}

func (*poll) init(*socket) error { return nil }

func (s *socket) receive() (*chunk, int, error) {
	c := chunks.Get().(*chunk) //nolint:forcetypeassert // it is ours
	s.rests()
	n, err := s.conn.Read(c[:])
	return c, n, err
}

func (s *socket) writeNow([]byte) (int, error) { return 0, nil }

func (s *socket) writeWaiting(b []byte) (int, error) {
	return s.conn.Write(b[:min(len(b), len(chunk{}))])
}
