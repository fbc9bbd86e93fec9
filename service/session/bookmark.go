package session

import (
	"context"
	"errors"
	"slices"
	"time"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/event"
	"github.com/tcmanager/tcmanager/service/store"
	"github.com/tcmanager/tcmanager/service/wire"
)

// roomsAtOnce is how many rooms are looked at in one snapshot of the store: a
// snapshot that is kept for long keeps the store from tidying up.
const roomsAtOnce = 200

// Run compares the rooms with their logs, once a heartbeat interval, until ctx
// ends. Idle readers are told where their room is; one that the router brought
// less than was committed reads the rest from the log.
func (srv *Server) Run(ctx context.Context) error {
	tick := time.NewTicker(srv.cfg.HeartbeatInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			for rooms := range slices.Chunk(srv.deps.Router.Names(), roomsAtOnce) {
				if err := srv.bookmark(ctx, rooms); err != nil && ctx.Err() == nil {
					srv.cfg.Logger.WarnContext(ctx, "rooms could not be compared with their logs", "error", err)
				}
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// bookmark tells the readers of some rooms where these are. Each frame is encoded
// once for all of them.
func (srv *Server) bookmark(ctx context.Context, rooms []event.Room) error {
	heads := map[event.Room]event.Position{}
	err := srv.deps.Store.View(ctx, func(r store.Reader) error {
		for _, room := range rooms {
			head, err := r.Head(room)
			if errors.Is(err, store.ErrNotFound) {
				continue
			}
			if err != nil {
				return err
			}
			heads[room] = head.Newest
		}
		return nil
	})
	if err != nil {
		return err
	}
	for room, at := range heads {
		frame, err := wire.Encode(&pb.SubscribeResponse{Frame: &pb.SubscribeResponse_Bookmark{
			Bookmark: &pb.Bookmark{Room: string(room), Position: at.Proto()},
		}})
		if err != nil {
			return err
		}
		srv.deps.Router.Bookmark(room, at, frame)
	}
	return nil
}
