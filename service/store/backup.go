package store

import "time"

// Backup is what a backup says of itself.
type Backup struct {
	TakenAt time.Time // the moment whose state it holds
	Version string    // of the program that took it
	Schema  int64     // the newest migration of the store it was taken of
	Bytes   int64     // of the file
}

// Progress hears how far a long piece of work is: what is being done, and how
// many bytes of how many; a total of 0 means that it isn't known.
type Progress func(doing string, done, total int64)

// Say calls p if there is one.
func (p Progress) Say(doing string, done, total int64) {
	if p != nil {
		p(doing, done, total)
	}
}
