package shop

import (
	"testing"

	"example.com/sample/gate"
)

func TestCart(t *testing.T) { t.Log("one apple") }

func TestPrice(t *testing.T) {
	if got, want := 3*33, 100; got != want {
		t.Errorf("three apples cost %d, want %d", got, want)
	}
}

func TestGiftWrap(t *testing.T) { t.Skip("no paper today") }

func TestCheckout(t *testing.T) {
	t.Attr("tcm.case", "TC-1")
	t.Error("the card was declined")
}

func TestTill(t *testing.T) { gate.Wait(t, "till") }
