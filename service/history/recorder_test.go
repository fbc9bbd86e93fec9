package history

import (
	"testing"
	"time"
)

func TestAStandstillIsRecordedWithItsLength(t *testing.T) {
	rec := NewRecorder(1)
	began := time.Now()
	rec.ticked(began, began.Add(standstill)) // late, as on a loaded machine
	rec.ticked(began, began.Add(3*time.Second))
	h, err := rec.History()
	if err != nil || len(h.Records) != 1 {
		t.Fatal(h, err)
	}
	if r := h.Records[0]; r.Kind != Paused || !r.At.Equal(began) || !r.Until.Equal(began.Add(3*time.Second)) {
		t.Error(r)
	}
}

func TestWhatIsRecordedLaterIsNotInAHistoryThatWasTaken(t *testing.T) {
	rec := NewRecorder(1)
	rec.Add(Record{Kind: Told, Room: "first"})
	h, err := rec.History()
	rec.Add(Record{Kind: Told, Room: "second"})
	if err != nil || len(h.Records) != 1 || len(append(h.Records, Record{Room: "mine"})) != 2 {
		t.Fatal(h, err)
	}
	later, err := rec.History()
	if err != nil || len(later.Records) != 2 || later.Records[1].Room != "second" {
		t.Error(later, err)
	}
}
