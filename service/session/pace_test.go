package session_test

import (
	"testing"
	"testing/synctest"
	"time"

	pb "github.com/tcmanager/tcmanager/gen/go/tcmanager/v1"
	"github.com/tcmanager/tcmanager/service/scene"
	"github.com/tcmanager/tcmanager/service/session"
)

func TestAClientThatAsksFasterThanItReadsIsSlowedDownAndServed(t *testing.T) {
	onStageWithoutQueues(t, session.Config{QueueBytes: 4 << 10, HeartbeatTimeout: time.Hour}, func(t *testing.T, st *stage) {
		c := st.connect(scene.Tester)
		c.hello("")
		const asked = 60
		for range asked {
			c.ask(&pb.JoinRoom{Room: room}) // each answer is about 700 bytes
		}
		synctest.Wait()
		if left := len(c.in); left < asked/2 {
			t.Errorf("with nothing read, %d of %d requests were carried out", asked-left, asked)
		}
		for answered := 0; answered < asked; {
			if c.next().GetJoined() != nil {
				answered++
			}
		}
		c.pong()
	})
}
