package main

import (
	"io"
	"sync"
)

// Reading is done in blocks by a goroutine of its own, so that a writer is
// never kept waiting by anything but its own speed.
const (
	blockSize = 64 << 10
	blocks    = 8
)

// block is a piece of input.
type block struct {
	data []byte
	buf  *[]byte
}

// input reads blocks from a stream.
type input struct {
	full chan block   // closed at the end of the stream
	free chan *[]byte // buffers to read into
	done chan struct{}
	once sync.Once
}

// readBlocks starts to read r. The goroutine ends with the stream; if that never
// ends, it ends at the next block after release was called.
func readBlocks(r io.Reader) *input {
	in := &input{full: make(chan block, blocks), free: make(chan *[]byte, blocks), done: make(chan struct{})}
	for range blocks {
		buf := make([]byte, blockSize)
		in.free <- &buf
	}
	go in.read(r)
	return in
}

func (in *input) read(r io.Reader) {
	defer close(in.full)
	for {
		var buf *[]byte
		select {
		case buf = <-in.free:
		case <-in.done:
			return
		}
		n, err := r.Read(*buf)
		if n > 0 {
			select {
			case in.full <- block{(*buf)[:n], buf}:
			case <-in.done:
				return
			}
		} else {
			in.free <- buf // there is room: this one was taken out of it
		}
		if err != nil {
			return // the end, or as good as that: there will be no more
		}
	}
}

// recycle gives the buffer of a block back.
func (in *input) recycle(b block) { in.free <- b.buf }

// release lets the goroutine go though nobody reads on.
func (in *input) release() { in.once.Do(func() { close(in.done) }) }
