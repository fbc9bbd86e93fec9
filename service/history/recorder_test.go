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
