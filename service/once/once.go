// Package once makes repeats harmless: a changing request with an id is carried
// out the first time and answered from memory after that.
package once

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/tcmanager/tcmanager/service/fault"
	"github.com/tcmanager/tcmanager/service/store"
)

// Window is how long an answer is remembered. A client that could not learn the
// fate of a request for longer than this has to read before it writes again.
const Window = 24 * time.Hour

// ErrReused says that a request id was used for something else before.
var ErrReused = fault.New(fault.Invalid, "REQUEST_ID_REUSED",
	"this request_id was used for another request; make a new one for each request")

// Do runs do unless the user's request id was carried out before: then it
// returns that answer. It belongs in the transaction that do writes in, so that
// the effect and the memory of it are kept or lost together. An empty id always
// runs do. The ids are scoped to the user; the same id with other content is
// ErrReused.
func Do[T proto.Message](tx store.Tx, userID, id string, at time.Time, req proto.Message, do func() (T, error)) (T, error) {
	var none T
	if id == "" {
		return do()
	}
	content, err := proto.MarshalOptions{Deterministic: true}.Marshal(req)
	if err != nil {
		return none, fmt.Errorf("encode request %s: %w", id, err)
	}
	hash := sha256.Sum256(content)
	method := string(req.ProtoReflect().Descriptor().FullName())
	done, err := tx.Request(userID, id)
	if err == nil {
		if done.Method != method || subtle.ConstantTimeCompare(done.Hash, hash[:]) != 1 {
			return none, ErrReused
		}
		answer, ok := none.ProtoReflect().New().Interface().(T)
		if !ok {
			return none, fmt.Errorf("answer to request %s: unexpected type", id)
		}
		if err := proto.Unmarshal(done.Response, answer); err != nil {
			return none, fmt.Errorf("read the answer to request %s: %w", id, err)
		}
		return answer, nil
	}
	if !errors.Is(err, store.ErrNotFound) {
		return none, fmt.Errorf("look for request %s: %w", id, err)
	}
	answer, err := do()
	if err != nil {
		return none, err
	}
	b, err := proto.Marshal(answer)
	if err != nil {
		return none, fmt.Errorf("encode the answer to request %s: %w", id, err)
	}
	if err := tx.PutRequest(store.Request{UserID: userID, ID: id, Method: method, Hash: hash[:], Response: b, At: at}); err != nil {
		return none, fmt.Errorf("remember request %s: %w", id, err)
	}
	return answer, nil
}
