package session

import (
	"errors"
	"strings"
	"testing"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
)

func TestAnswersThatPileUpAreBoundedInNumberAndBytes(t *testing.T) {
	big := &pb.SubscribeResponse{Frame: &pb.SubscribeResponse_Joined{Joined: &pb.Joined{Room: strings.Repeat("x", 3<<20)}}}
	small := &pb.SubscribeResponse{Frame: &pb.SubscribeResponse_Pong{Pong: &pb.Pong{}}}
	for name, tc := range map[string]struct {
		frame *pb.SubscribeResponse
		fit   int
	}{
		"many":  {small, maxControl},
		"large": {big, 2},
	} {
		o := newOutbox(1 << 10)
		for range tc.fit {
			o.post(tc.frame)
		}
		if _, err := o.take(); err != nil {
			t.Errorf("%s: %d frames waited, and taking one failed: %v", name, tc.fit, err)
		}
		o.post(tc.frame)
		o.post(tc.frame)
		if _, err := o.take(); !errors.Is(err, errTooSlow) {
			t.Errorf("%s: a frame too many gave %v, want TOO_SLOW", name, err)
		}
	}
	o := newOutbox(1 << 10)
	o.post(&pb.SubscribeResponse{Frame: &pb.SubscribeResponse_Joined{Joined: &pb.Joined{Room: strings.Repeat("x", 2*controlBytes)}}})
	if b, err := o.take(); err != nil || len(b) < controlBytes {
		t.Errorf("one answer larger than the bound gave %d bytes, %v; want it to go", len(b), err)
	}
}
