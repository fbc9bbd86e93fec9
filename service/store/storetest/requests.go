package storetest

import (
	"errors"
	"strconv"
	"time"

	"github.com/tcmanager/tcmanager/service/store"
)

var requestTests = []test{
	{"a request is remembered for its user", func(e *env) {
		mine := store.Request{UserID: "ada", ID: "1", Method: "m", Hash: []byte{1, 0, 2}, Response: []byte("answer"), At: noon}
		yours := store.Request{UserID: "grace", ID: "1", Method: "n", Hash: []byte{3}, Response: []byte("other"), At: noon}
		e.keeps(func(tx store.Tx) error {
			return errors.Join(tx.PutRequest(mine), tx.PutRequest(yours),
				fails(0, tx.PutRequest(mine))("a second time", store.ErrExists))
		}, func(r store.Reader) error {
			return errors.Join(
				is(r.Request("ada", "1"))("one user's", mine),
				is(r.Request("grace", "1"))("another's with the same id", yours),
				fails(r.Request("ada", "2"))("an unknown one", store.ErrNotFound),
				fails(r.Request("nobody", "1"))("nobody's", store.ErrNotFound),
			)
		})
	}},
	{"an empty answer is remembered", func(e *env) {
		e.keeps(func(tx store.Tx) error {
			return tx.PutRequest(store.Request{UserID: "ada", ID: "1", At: noon})
		}, func(r store.Reader) error {
			req, err := r.Request("ada", "1")
			return is(len(req.Response)+len(req.Hash), err)("bytes", 0)
		})
	}},
	{"requests from before a moment are forgotten", func(e *env) {
		e.keeps(func(tx store.Tx) error {
			more, err := false, errors.Join(
				tx.PutRequest(store.Request{UserID: "ada", ID: "old", At: later(-1)}),
				tx.PutRequest(store.Request{UserID: "ada", ID: "now", At: noon}))
			if err == nil {
				more, err = tx.DropRequests(noon)
			}
			return is(more, err)("more", false)
		}, func(r store.Reader) error {
			_, err := r.Request("ada", "now")
			return errors.Join(err, fails(r.Request("ada", "old"))("the old one", store.ErrNotFound))
		})
	}},
	{"many old requests are forgotten a bounded number at a time, the oldest first", func(e *env) {
		const old = 2500
		e.update(func(tx store.Tx) error {
			var errs []error
			for i := range old {
				errs = append(errs, tx.PutRequest(store.Request{UserID: "ada", ID: strconv.Itoa(i), At: noon.Add(time.Duration(i-old) * time.Second)}))
			}
			return errors.Join(append(errs, tx.PutRequest(store.Request{UserID: "ada", ID: "now", At: noon}))...)
		})
		calls := 0
		for more := true; more; calls++ {
			if calls > old {
				e.Fatal("it never ends")
			}
			e.update(func(tx store.Tx) (err error) {
				more, err = tx.DropRequests(noon)
				return err
			})
			if calls == 0 {
				e.view(func(r store.Reader) error {
					_, err := r.Request("ada", strconv.Itoa(old-1))
					return errors.Join(err, fails(r.Request("ada", "0"))("the oldest", store.ErrNotFound))
				})
			}
		}
		if calls < 2 {
			e.Errorf("%d requests were forgotten in one call", old)
		}
		e.view(func(r store.Reader) error {
			_, err := r.Request("ada", "now")
			return errors.Join(err, fails(r.Request("ada", strconv.Itoa(old-1)))("the last old one", store.ErrNotFound))
		})
	}},
}
