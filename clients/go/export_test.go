package tcmanager

// Buffered returns how many bytes wait for the reader of a room.
func (s *Session) Buffered(room string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f := s.feeds[room]; f != nil {
		return f.buffer.bytes + f.buffer.latestBytes
	}
	return 0
}
