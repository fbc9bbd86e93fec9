package memory

import "testing"

func TestCacheIsBoundedAndKeepsWhatIsUsed(t *testing.T) {
	c := NewCache[int, int]()
	for i := range 5 * maxNames {
		c.Mark()
		c.Put(i, i)
		if v, ok := c.Get(0); !ok || v != 0 {
			t.Fatalf("what is read all the time is forgotten after %d", i)
		}
		if n := len(c.young) + len(c.old); n > 2*maxNames {
			t.Fatalf("it holds %d entries", n)
		}
	}
	if _, ok := c.Get(1); ok {
		t.Error("what is never read is remembered")
	}
}

func TestCacheForgetsWhatWasUndoneAlsoFromItsOldGeneration(t *testing.T) {
	c := NewCache[int, int]()
	c.Put(-1, 1)
	c.Mark()
	for i := range maxNames + 10 {
		c.Put(i, i)
	}
	c.Undo()
	if n := len(c.young) + len(c.old); n != 1 {
		t.Errorf("it holds %d entries, want the one from before", n)
	}
	if v, ok := c.Get(-1); !ok || v != 1 {
		t.Error("the one from before is forgotten")
	}
}
