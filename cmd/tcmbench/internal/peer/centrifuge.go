package peer

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
)

// Centrifuge speaks the protobuf form of Centrifugo's client protocol over a websocket: messages with their lengths before them, any
// number in a frame. See github.com/centrifugal/protocol/blob/v0.23.1/definitions/client.proto for the numbers of its fields.
type Centrifuge struct {
	ws       websocket
	request  []byte // within a command
	commands []byte // before they are framed
}

// NewCentrifuge returns the protocol of one connection to a server made with the Centrifuge library.
func NewCentrifuge() *Centrifuge { return &Centrifuge{} }

// The ids of commands, which replies repeat. Those of updates follow.
const (
	connectCommand     = 1
	subscribeCommand   = 2
	publishCommand     = 3
	firstUpdateCommand = 4
)

// The numbers of fields.
const (
	commandID        = 1
	commandConnect   = 4
	commandSubscribe = 5
	commandPublish   = 7
	commandRPC       = 13

	replyID    = 1
	replyError = 2
	replyPush  = 4

	pushPublication = 4
	pushDisconnect  = 11
	publicationData = 4

	requestChannel = 1 // of subscribe and publish
	publishData    = 2
	rpcData        = 1
)

// Open implements Protocol.
func (c *Centrifuge) Open(host string) []byte {
	return c.ws.upgrade(host, "/connection/websocket", "centrifuge-protobuf")
}

// connected says who we are.
func (c *Centrifuge) connected() {
	c.request = c.request[:0]
	c.ws.reply = c.command(c.ws.reply, connectCommand, commandConnect)
}

// Join implements Protocol.
func (c *Centrifuge) Join(room string) []byte {
	c.request = protowire.AppendTag(c.request[:0], requestChannel, protowire.BytesType)
	c.request = protowire.AppendString(c.request, room)
	return c.command(nil, subscribeCommand, commandSubscribe)
}

// Publish implements Protocol.
func (c *Centrifuge) Publish(dst []byte, room string, payload []byte) []byte {
	c.request = protowire.AppendTag(c.request[:0], requestChannel, protowire.BytesType)
	c.request = protowire.AppendString(c.request, room)
	c.request = protowire.AppendTag(c.request, publishData, protowire.BytesType)
	c.request = protowire.AppendBytes(c.request, payload)
	return c.command(dst, publishCommand, commandPublish)
}

// Update implements Protocol. The sequence number is the command's id too, so that the reply says it: the wire has 32 bits for it.
func (c *Centrifuge) Update(dst []byte, seq uint64) []byte {
	c.request = protowire.AppendTag(c.request[:0], rpcData, protowire.BytesType)
	c.request = protowire.AppendVarint(c.request, 8)
	c.request = protowire.AppendFixed64(c.request, seq)
	return c.command(dst, uint32(seq)+firstUpdateCommand, commandRPC)
}

// command appends a frame of one command, with the request of that field.
func (c *Centrifuge) command(dst []byte, id uint32, field protowire.Number) []byte {
	size := protowire.SizeTag(commandID) + protowire.SizeVarint(uint64(id)) +
		protowire.SizeTag(field) + protowire.SizeBytes(len(c.request))
	b := protowire.AppendVarint(c.commands[:0], uint64(size))
	b = protowire.AppendTag(b, commandID, protowire.VarintType)
	b = protowire.AppendVarint(b, uint64(id))
	b = protowire.AppendTag(b, field, protowire.BytesType)
	c.commands = protowire.AppendBytes(b, c.request)
	return c.ws.append(dst, binaryFrame, c.commands)
}

// Feed implements Protocol.
func (c *Centrifuge) Feed(p []byte, on Handler) (consumed int, reply []byte, err error) {
	return c.ws.feed(p, on, c)
}

func (c *Centrifuge) message(p []byte, on Handler) error {
	for len(p) > 0 {
		one, n := protowire.ConsumeBytes(p)
		if n < 0 {
			return fmt.Errorf("a reply: %w", protowire.ParseError(n))
		}
		if err := c.answer(one, on); err != nil {
			return err
		}
		p = p[n:]
	}
	return nil
}

// field is one of a message: a number, or bytes.
type field struct {
	number protowire.Number
	value  uint64
	bytes  []byte
}

// next takes the first field off a message.
func next(p []byte) (f field, rest []byte, err error) {
	number, kind, n := protowire.ConsumeTag(p)
	if n < 0 {
		return field{}, nil, fmt.Errorf("a field: %w", protowire.ParseError(n))
	}
	f.number, p = number, p[n:]
	switch kind {
	case protowire.VarintType:
		f.value, n = protowire.ConsumeVarint(p)
	case protowire.BytesType:
		f.bytes, n = protowire.ConsumeBytes(p)
	default:
		n = protowire.ConsumeFieldValue(number, kind, p)
	}
	if n < 0 {
		return field{}, nil, fmt.Errorf("a field: %w", protowire.ParseError(n))
	}
	return f, p[n:], nil
}

// answer reads one reply. An empty one is a ping, whose answer is an empty command.
func (c *Centrifuge) answer(p []byte, on Handler) error {
	if len(p) == 0 {
		c.ws.reply = c.ws.append(c.ws.reply, binaryFrame, []byte{0})
		return nil
	}
	id := uint64(0)
	for len(p) > 0 {
		f, rest, err := next(p)
		if err != nil {
			return err
		}
		switch f.number {
		case replyID:
			id = f.value
		case replyError:
			return fmt.Errorf("command %d was refused: %q", id, f.bytes)
		case replyPush:
			return push(f.bytes, on)
		}
		p = rest
	}
	switch {
	case id == connectCommand:
		on.Ready()
	case id == subscribeCommand:
		on.Joined()
	case id >= firstUpdateCommand:
		on.Acked(id - firstUpdateCommand)
	}
	return nil
}

func push(p []byte, on Handler) error {
	for len(p) > 0 {
		f, rest, err := next(p)
		if err != nil {
			return err
		}
		switch f.number {
		case pushPublication:
			return publication(f.bytes, on)
		case pushDisconnect:
			return fmt.Errorf("the server ended the connection: %q", f.bytes)
		}
		p = rest
	}
	return nil
}

func publication(p []byte, on Handler) error {
	for len(p) > 0 {
		f, rest, err := next(p)
		if err != nil {
			return err
		}
		if f.number == publicationData {
			on.Event(f.bytes)
			return nil
		}
		p = rest
	}
	return errors.New("a publication without a payload")
}
