package ratelimit

import (
	"context"
	"net"
	"net/netip"
	"testing"

	"google.golang.org/grpc/peer"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/identity"
)

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
