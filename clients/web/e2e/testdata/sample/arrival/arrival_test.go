package arrival

import (
	"testing"

	"example.com/sample/gate"
)

func TestDoorOpens(t *testing.T) { gate.Wait(t, "door") }

func TestGuests(t *testing.T) {
	t.Run("two guests", func(t *testing.T) {})
	t.Run("no parent/of its own", func(t *testing.T) {})
	t.Run("nested", func(t *testing.T) {
		t.Run("deep inside", func(t *testing.T) { t.Log("\x1b[32mgreen\x1b[0m words") })
	})
}

func TestTogether(t *testing.T) {
	for _, name := range []string{"a", "b", "c", "d"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			gate.Wait(t, "together")
		})
	}
}
