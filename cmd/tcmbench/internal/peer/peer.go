// Package peer speaks the wire protocols of the servers that the benchmark compares TCManager with, from the client's side.
package peer

// Protocol speaks one server's wire protocol for one connection, from the client's side. It does no I/O.
// A value belongs to one connection and isn't safe for concurrent use.
type Protocol interface {
	// Open returns the bytes to send first (the websocket upgrade, or the first frame).
	Open(host string) []byte
	// Join returns the bytes that subscribe to a room; the answer is reported by Feed as Joined. It is sent after Feed reported Ready.
	Join(room string) []byte
	// Publish appends a message that makes the server send payload to all in the room (a payload is about 210 bytes; its first
	// 8 bytes are a big-endian sequence number, the next 8 the send time in ns).
	Publish(dst []byte, room string, payload []byte) []byte
	// Update appends a small update that the server acknowledges (workload ingest), reported by Feed as Acked.
	Update(dst []byte, seq uint64) []byte
	// Feed consumes bytes from the server and reports what they were; it returns how many bytes it consumed (the caller keeps
	// the rest) and bytes to send back (pongs), if any, which are valid until the next call. An error ends the connection.
	Feed(p []byte, on Handler) (consumed int, reply []byte, err error)
}

// Handler is told what came from the server. Its methods are called from within Feed, in the order of the bytes.
type Handler interface {
	// Ready says that the connection may be used: Join, Publish and Update may be sent from now on.
	Ready()
	// Joined says that the server has answered a Join. Events published after it arrive.
	Joined()
	// Event delivers a published payload, which is only valid during the call.
	Event(payload []byte)
	// Acked says that the server has handled the Update with this sequence number.
	Acked(seq uint64)
}
