package boom

import "testing"

func TestBefore(t *testing.T) {}

func TestBoom(t *testing.T) {
	var nobody map[string]int
	nobody["home"]++
}

func TestNeverReached(t *testing.T) {}
