package ratelimit

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/peer"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/identity"
)

func TestBucketsAreBoundedInNumber(t *testing.T) {
	b := newBuckets(Rate{PerSecond: 1, Burst: 1})
	busy := b.get("busy")
	for i := range 3 * maxBuckets {
		b.get(fmt.Sprint(i))
		if i%1000 == 0 && b.get("busy") != busy {
			t.Fatal("a bucket in use made room for others")
		}
	}
	if len(b.byKey) != maxBuckets || b.order.Len() != maxBuckets {
		t.Errorf("%d buckets, %d in order", len(b.byKey), b.order.Len())
	}
}

func TestABucketFillsAtItsRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens := newBuckets(Rate{PerSecond: 10, Burst: 5}).get("k")
		taken := 0
		for range 1000 {
			if take(tokens) == 0 {
				taken++
			}
			time.Sleep(10 * time.Millisecond)
		}
		if taken < 104 || taken > 105 { // 5 at once and 10 a second
			t.Errorf("%d taken in 10 s", taken)
		}
	})
}

func TestNoRateMeansNoLimit(t *testing.T) {
	tokens := newBuckets(Rate{}).get("k")
	for range 100_000 {
		if take(tokens) != 0 {
			t.Fatal("limited")
		}
	}
}

func TestWhoIsLimited(t *testing.T) {
	at := func(addr string) context.Context {
		return peer.NewContext(t.Context(), &peer.Peer{Addr: net.TCPAddrFromAddrPort(netip.MustParseAddrPort(addr))})
	}
	for _, c := range []struct {
		ctx  context.Context
		want string
	}{
		{t.Context(), "peer unknown"},
		{at("192.0.2.7:1234"), "peer 192.0.2.7"},
		{at("[::1]:1"), "peer ::/64"},
		{at("[2001:db8:1:2:3:4:5:6]:1"), "peer 2001:db8:1:2::/64"},
		{at("[2001:db8:1:2:ffff::1]:2"), "peer 2001:db8:1:2::/64"},
		{identity.WithCaller(at("192.0.2.7:1234"), identity.Caller{User: &pb.User{Id: "u1"}}), "user u1"},
	} {
		if got := who(c.ctx); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}
