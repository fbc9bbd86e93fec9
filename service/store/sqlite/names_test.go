package sqlite

import "testing"

func TestCacheIsBoundedAndKeepsWhatIsUsed(t *testing.T) {
	c := newCache[int, int]()
	for i := range 5 * maxNames {
		c.mark()
		c.put(i, i)
		if v, ok := c.get(0); !ok || v != 0 {
			t.Fatalf("what is read all the time is forgotten after %d", i)
		}
		if n := len(c.young) + len(c.old); n > 2*maxNames {
			t.Fatalf("it holds %d entries", n)
		}
	}
	if _, ok := c.get(1); ok {
		t.Error("what is never read is remembered")
	}
}

func TestCacheForgetsWhatWasUndoneAlsoFromItsOldGeneration(t *testing.T) {
	c := newCache[int, int]()
	c.put(-1, 1)
	c.mark()
	for i := range maxNames + 10 {
		c.put(i, i)
	}
	c.undo()
	if n := len(c.young) + len(c.old); n != 1 {
		t.Errorf("it holds %d entries, want the one from before", n)
	}
	if v, ok := c.get(-1); !ok || v != 1 {
		t.Error("the one from before is forgotten")
	}
}
